/**
 * Owns what Claude Code writes into `metadata.user_id`.
 * Does not own its headers (the gateway's) or what a session is worth as a label (the engine's).
 * Invariant: only the two known forms name a session; any other user id names none.
 *
 * @see providers.md §11: newer builds send a JSON string, older ones `user_…_account_…_session_…` [CC]
 */

const UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";
const OLDER_FORM = new RegExp(`^user_[0-9a-fA-F]{64}_account_(?:${UUID})?_session_(${UUID})$`);
const SESSION_ID = new RegExp(`^${UUID}$`);

/** The session a user id names, or `undefined`. Client-supplied: a label, never a proof. */
export function sessionOfUserId(userId: string): string | undefined {
  if (!userId.startsWith("{")) return OLDER_FORM.exec(userId)?.[1];
  const value = parseJson(userId);
  if (typeof value !== "object" || value === null || !("session_id" in value)) return undefined;
  const { session_id: session } = value;
  return typeof session === "string" && SESSION_ID.test(session) ? session : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The user id is an opaque text to the provider: one that only begins like JSON is as good as any other.
    return undefined;
  }
}
