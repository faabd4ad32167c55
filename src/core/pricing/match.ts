/**
 * Owns which spellings name one model: exact, plus date suffixes and other platforms' ids. Does not own the rows.
 * Invariant: never by prefix (claude-opus-5 begins claude-opus-5-5 and costs more); case, white space and look-alike letters are
 * other names. What matches nothing is unpriced.
 */

/** A name to look up exactly. */
export interface Spelling {
  name: string;
  /** True if the id names a region of another platform, where the regional surcharge of a row applies. */
  isRegional: boolean;
}

/** Claude Code's mark for the long context window, put on by the client: not part of the model's name. */
const CLAUDE_CODE_SUFFIX = "[1m]";

/**
 * Bedrock: `anthropic.claude-haiku-4-5-20251001-v1:0`, with a region before it. `us-gov.` and whatever else AWS adds have prices of their
 * own and match nothing.
 */
const BEDROCK = /^(?:(us|eu|apac|au|jp|global)\.)?anthropic\.(claude-[a-z0-9-]+?)(?:-v\d+(?::\d+)?)?$/;

/** Vertex: `claude-haiku-4-5@20251001` and `@default`. The id does not tell a regional endpoint from the global one: global is assumed,
 * and who uses a regional one (10 % more) writes an own price. */
const VERTEX = /^(claude-[a-z0-9-]+)@(\d{8}|default)$/;

/** `-20251001` (Anthropic) and `-2025-04-14` (OpenAI). Only real dates: a version number is no date. */
const DATE_SUFFIX =
  /^(.+)-(?:20\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|20\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))$/;

/**
 * All names a model may be listed under, the most exact first.
 *
 * @param model the model as a caller or a provider wrote it.
 */
export function spellingsOf(model: string): Spelling[] {
  const bare = model.endsWith(CLAUDE_CODE_SUFFIX) ? model.slice(0, -CLAUDE_CODE_SUFFIX.length) : model;
  const spellings: Spelling[] = [{ name: model, isRegional: false }];
  const add = (name: string, isRegional: boolean): void => {
    spellings.push({ name, isRegional });
    const undated = DATE_SUFFIX.exec(name)?.[1];
    if (undated !== undefined) spellings.push({ name: undated, isRegional });
  };
  add(bare, false);
  const bedrock = BEDROCK.exec(bare);
  if (bedrock?.[2] !== undefined) add(bedrock[2], bedrock[1] !== undefined && bedrock[1] !== "global");
  const vertex = VERTEX.exec(bare);
  if (vertex?.[1] !== undefined) add(vertex[2] === "default" ? vertex[1] : `${vertex[1]}-${vertex[2]}`, false);
  return spellings;
}
