/**
 * Owns being a language-model middleware of the AI SDK that names who its calls count for. Does not own metering: that is the `fetch` of the
 * provider underneath.
 * Invariant: it changes nothing of a call, and sees nothing of it.
 *
 * @see https://ai-sdk.dev/docs/ai-sdk-core/middleware
 */
import type { CallScopes } from "./scopes.ts";

/** For `wrapLanguageModel({ model, middleware })` of AI SDK 7. */
export interface LanguageModelMiddleware {
  readonly specificationVersion: "v4";
  wrapGenerate<Result>(call: { doGenerate: () => PromiseLike<Result> }): Promise<Result>;
  wrapStream<Result>(call: { doStream: () => PromiseLike<Result> }): Promise<Result>;
}

export function createLanguageModelMiddleware(
  run: <Result>(scopes: CallScopes, fn: () => Result) => Result,
  scopes: CallScopes,
): LanguageModelMiddleware {
  return {
    specificationVersion: "v4",
    wrapGenerate: async ({ doGenerate }) => run(scopes, doGenerate),
    wrapStream: async ({ doStream }) => run(scopes, doStream),
  };
}
