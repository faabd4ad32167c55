/**
 * Owns which tool types run at the caller and which run in a loop at the provider.
 * Does not own their token overheads (models.ts).
 * Invariant: a type that is not known to run at the caller is taken to run at the provider, where it can cost.
 *
 * @see providers.md §3 (server tools), §9 (overheads); `ToolUnion` in @anthropic-ai/sdk 1.8.0
 */

/** Names of tools that the caller runs, without the date that ends each type. */
const CLIENT_TOOLS = new Set(["custom", "bash", "text_editor", "computer", "memory", "computer_toolset", "browser_toolset"]);

/** Server tools whose `max_uses` bounds every cost they have: their own samplings, on the model that was asked. */
const CAPPED_TOOLS = new Set(["web_search", "web_fetch"]);

/** "bash_20250124" → "bash". */
export function toolName(type: string): string {
  return type.replace(/_\d{8}$/, "");
}

export function isKnownClientTool(type: string): boolean {
  return CLIENT_TOOLS.has(toolName(type));
}

/**
 * True if a cap on the uses of this server tool bounds what it costs. Not so for the advisor (another model, whose own samplings
 * max_tokens does not cap), code execution (container time) and any type that is not known.
 */
export function hasServerLoop(type: string): boolean {
  return CAPPED_TOOLS.has(toolName(type));
}
