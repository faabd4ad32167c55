/**
 * Batches of calls that are answered within a day: their reservations are owned by the row here, not by a process, and whoever runs
 * settles them. Released: it never changes again.
 */
export const BATCHES = `
create table batches (
  submission_id text primary key,
  provider text not null,
  key_id text,
  batch_id text,
  submitted_at_ms integer not null,
  ended_at_ms integer,
  check_sum integer not null
) strict;
`;
