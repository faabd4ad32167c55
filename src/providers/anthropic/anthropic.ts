/**
 * Owns Anthropic as one provider: puts this folder's files together.
 * Does not own any of their rules.
 */
import type { Provider } from "../provider.ts";
import { boundInputTokens, boundMessageTokens } from "./bound.ts";
import { editRequest } from "./edit.ts";
import { shapeError } from "./errors.ts";
import { openMeter } from "./meter.ts";
import { rejectedBy } from "./rejection.ts";
import { readRequest } from "./request.ts";

/** The Messages API of Anthropic. */
export const anthropic: Provider = {
  name: "anthropic",
  readRequest,
  boundInputTokens,
  boundMessageTokens,
  rejectedBy,
  editRequest,
  openMeter,
  shapeError,
};
