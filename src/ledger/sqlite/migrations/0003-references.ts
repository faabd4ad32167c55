/**
 * Nothing of the tables changes: entries from here on may refer to earlier ones for names that those spell out, which versions before
 * cannot read. Entries that are there stay as they are. Released: it never changes again.
 */
export const REFERENCES = "select 'entries may refer to earlier ones'";
