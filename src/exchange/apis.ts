/**
 * Owns which protocol each metered path speaks. Does not own the paths (routes.ts) or the protocols (providers/).
 * Invariant: nothing outside asks which provider it is: what differs between two is a function of theirs.
 */
import { anthropic } from "../providers/anthropic/anthropic.ts";
import { openaiChat, openaiEmbeddings, openaiResponses } from "../providers/openai/openai.ts";
import type { Provider } from "../providers/provider.ts";

/** Who is paid. */
export type ProviderName = "anthropic" | "openai";

/** By the name that routes give it. */
export const APIS = {
  messages: anthropic,
  chat: openaiChat,
  responses: openaiResponses,
  embeddings: openaiEmbeddings,
} as const satisfies Record<string, Provider>;

/** One protocol of one provider. */
export type ApiName = keyof typeof APIS;

/** For what all protocols of a provider have in common: how it is told no, what its headers are called. */
export const SPEAKERS: Readonly<Record<ProviderName, Provider>> = { anthropic: APIS.messages, openai: APIS.chat };
