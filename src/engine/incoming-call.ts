/**
 * Owns what the engine is handed of a call, or of a batch of them, by whatever face. Does not own what it does with it (pipeline.ts,
 * batches.ts).
 */
import type { PaidApi } from "../providers/provider.ts";
import type { AskCount } from "./counts.ts";
import type { Caller, Labels } from "./identify.ts";

/** A call waits in line at most this long. */
export const WAIT_MS_MAX = 60_000;

/** Whether the caller is still there. */
export interface Presence {
  readonly isGone: boolean;
  /** Why it is not waited for any more, where that is not its own doing. */
  readonly goneFor?: string | undefined;
  /** Calls back once when it leaves; the returned function stops that. */
  onGone(callBack: () => void): () => void;
}

export interface IncomingCall<Api extends PaidApi = PaidApi> {
  provider: Api;
  body: Uint8Array;
  /** What stands outside the body and may change how the provider reads it; absent: nothing. */
  variant?: string;
  caller: Caller;
  labels: Labels;
  /** The tool that it runs; absent: it is a call that is paid for. Under its idempotency key an invocation is counted once, for good. */
  tool?: string;
  /** The client's own count of attempts, 0 for the first. */
  attempt: number;
  /** Never waited past (epoch ms); `undefined`: the caller named none. */
  deadlineAtMs: number | undefined;
  idempotencyKey: string | undefined;
  presence: Presence;
  /** Asks the provider what it counts a request with, as this caller; absent: nobody asks. */
  askCount?: AskCount;
}
