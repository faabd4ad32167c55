/**
 * Owns loading the protocol that a call speaks, with its first call: a program that calls one provider carries no other.
 * Does not own which path speaks which (exchange/apis.ts, whose table this is with the loading put off).
 */
import type { ApiName, ProviderName } from "../exchange/apis.ts";
import type { Provider } from "../providers/provider.ts";

const LOADERS: Readonly<Record<ApiName, () => Promise<Provider>>> = {
  messages: async () => (await import("../providers/anthropic/anthropic.ts")).anthropic,
  chat: async () => (await import("../providers/openai/openai.ts")).openaiChat,
  responses: async () => (await import("../providers/openai/openai.ts")).openaiResponses,
  embeddings: async () => (await import("../providers/openai/openai.ts")).openaiEmbeddings,
};

/** Any protocol of a provider, for what all of its have in common. */
const ANY: Readonly<Record<ProviderName, ApiName>> = { anthropic: "messages", openai: "chat" };

export function loadApi(name: ApiName): Promise<Provider> {
  return LOADERS[name]();
}

/** How a provider says no. */
export function loadSpeaker(provider: ProviderName): Promise<Provider> {
  return loadApi(ANY[provider]);
}
