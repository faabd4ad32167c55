/**
 * Owns which providers take batches. Does not own how they are spelled (providers/). Apart from apis.ts: who hands in none loads none.
 */
import { anthropicBatches } from "../providers/anthropic/batches.ts";
import type { BatchProtocol } from "../providers/provider.ts";
import type { ProviderName } from "./apis.ts";

/** By who is paid. Absent: it takes none through Purser. */
export const BATCH_PROTOCOLS: Readonly<Partial<Record<ProviderName, BatchProtocol>>> = { anthropic: anthropicBatches };
