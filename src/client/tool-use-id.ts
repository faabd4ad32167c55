/**
 * Owns finding the provider's id of an invocation in what agent libraries hand to a tool beside its input. Knows of each only where.
 * Invariant: a shape that nobody knows has no id: such an invocation counts each time, which refuses too early and never too late.
 */

/** Paths inside an argument behind the input. */
const PLACES = [
  // Vercel AI SDK: execute(input, { toolCallId }).
  ["toolCallId"],
  // Anthropic's SDK: run(input, { toolUse }).
  ["toolUse", "id"],
  // LangChain: func(input, { toolCall }), behind a run manager.
  ["toolCall", "id"],
  // OpenAI's Agents SDK: execute(input, context, { toolCall }).
  ["toolCall", "callId"],
];

/** The id of this invocation; `undefined`: none is there. */
export function toolUseIdIn(...[, ...beside]: unknown[]): string | undefined {
  for (const argument of beside) {
    for (const path of PLACES) {
      const id = path.reduce((value: unknown, key) => memberOf(value, key), argument);
      if (typeof id === "string" && id !== "") return id;
    }
  }
  return undefined;
}

function memberOf(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? (Reflect.get(value, key) as unknown) : undefined;
}
