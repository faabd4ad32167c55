/**
 * Owns which tool types the caller runs and which run in a loop at the provider.
 * Invariant: a type that is not known to run at the caller is taken to run at the provider, where it can cost.
 *
 * @see `Tool` in openai 7.57.0, resources/responses/responses.d.ts
 */

/** Written out in the request, and nothing besides: what the model reads of them is in the body. */
const PLAIN_TOOLS = new Set(["function", "custom", "namespace"]);

/** Run by the caller, but described to the model by the provider. */
const DESCRIBED_TOOLS = new Set(["local_shell", "apply_patch", "computer", "computer_use_preview"]);

export function isPlainTool(type: string): boolean {
  return PLAIN_TOOLS.has(type);
}

export function isClientTool(type: string): boolean {
  return PLAIN_TOOLS.has(type) || DESCRIBED_TOOLS.has(type);
}
