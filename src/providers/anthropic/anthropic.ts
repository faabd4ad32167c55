/**
 * Owns Anthropic as one provider: puts this folder's files together.
 * Does not own any of their rules.
 */
import type { Provider } from "../provider.ts";
import { boundCountedTokens, boundInputTokens, boundMessageTokens, COUNT_MARGIN_TOKENS } from "./bound.ts";
import { countPath, countRequest, readCount } from "./count.ts";
import { editRequest } from "./edit.ts";
import { shapeError } from "./errors.ts";
import { openMeter } from "./meter.ts";
import { rejectedBy } from "./rejection.ts";
import { readRequest } from "./request.ts";

/** The Messages API of Anthropic. */
export const anthropic: Provider = {
  name: "anthropic",
  requestIdHeader: "request-id",
  credentialHeader: (credential) => ["x-api-key", credential],
  readRequest,
  boundInputTokens,
  boundMessageTokens,
  counting: {
    pathOf: countPath,
    requestOf: countRequest,
    readAnswer: readCount,
    boundOf: boundCountedTokens,
    marginTokens: COUNT_MARGIN_TOKENS,
  },
  rejectedBy,
  editRequest,
  openMeter,
  shapeError,
};
