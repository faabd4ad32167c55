/**
 * Owns who admits the calls of the figure "Not in the way": Purser's engine as it is, and beside it the two usual policies.
 * Does not own the traffic, the provider, or the judgement.
 */
import { startEngine, type FakeClock } from "../../src/engine/engine.fixture.ts";
import type { AskCount } from "../../src/engine/counts.ts";
import { createFingerprints } from "../../src/exchange/system.ts";
import { MAX_TOKENS } from "./not-in-the-way-traffic.ts";
import { countTokens, PRICES, type Answer, type Model } from "./not-in-the-way-upstream.ts";

/** A request as its agent sends it. */
export interface Asking {
  agent: string;
  body: Uint8Array;
  inputTokens: number;
}

export type Answered =
  | { outcome: "admitted"; body: Uint8Array; started(answer: Answer): void; ended(answer: Answer): Promise<void> }
  | { outcome: "later"; afterMs: number }
  | { outcome: "refused"; code: string };

export interface Gate {
  ask(asking: Asking): Promise<Answered>;
  clock: FakeClock;
  /** What it holds for calls in flight. */
  reservedNanoUsd(): Promise<bigint>;
}

/** The provider's own count, free and at once. */
const askCount: AskCount = (body) => {
  const answer = Buffer.from(JSON.stringify({ input_tokens: countTokens(body) }));
  return { answer: Promise.resolve({ status: 200, body: answer }), cancel: () => undefined };
};

export async function startPurser(ceilingUsd: number): Promise<Gate> {
  const yaml = `limits: [{ name: everything, per: all, usd: ${ceilingUsd}, at: { 100%: stop } }]`;
  const bench = await startEngine(yaml, { fingerprints: createFingerprints() });
  return {
    clock: bench.clock,
    reservedNanoUsd: () => bench.reserved(),
    async ask({ agent, body }) {
      const opening = await bench.engine.open(bench.callOf({ body, labels: { agent }, askCount }));
      if (opening.outcome === "gone") throw new Error("nobody left");
      if (opening.outcome === "refused") {
        const { retryAfterSeconds, details } = opening.refusal;
        return retryAfterSeconds === undefined
          ? { outcome: "refused", code: details.code }
          : { outcome: "later", afterMs: retryAfterSeconds * 1_000 };
      }
      const { call } = opening;
      call.markSent();
      const meter = call.openMeter("text/event-stream");
      return {
        outcome: "admitted",
        body: call.body,
        started: ({ start }) => meter.push(start),
        async ended({ rest }) {
          meter.push(rest);
          meter.end();
          await call.end({ kind: "completed", status: 200, reading: meter.reading() });
        },
      };
    },
  };
}

/** Looks at what is spent, then lets the call run. */
export function startUnreserved(ceiling: bigint, clock: FakeClock): Gate {
  let spent = 0n;
  return {
    clock,
    reservedNanoUsd: () => Promise.resolve(0n),
    ask({ body }) {
      if (spent >= ceiling) return Promise.resolve({ outcome: "refused", code: "spent" });
      return Promise.resolve({
        outcome: "admitted",
        body,
        started: () => undefined,
        ended: ({ costNanoUsd }) => {
          spent += costNanoUsd;
          return Promise.resolve();
        },
      });
    },
  };
}

/** Reserves the worst case (the exact count of input at the dearest price, and all of max_tokens), and refuses what does not fit now. */
export function startReserving(ceiling: bigint, clock: FakeClock, model: Model): Gate {
  const { cacheWrite, output } = PRICES[model];
  let spent = 0n;
  let reserved = 0n;
  return {
    clock,
    reservedNanoUsd: () => Promise.resolve(reserved),
    ask({ body, inputTokens }) {
      const worst = BigInt(inputTokens) * cacheWrite + BigInt(MAX_TOKENS) * output;
      if (spent + reserved + worst > ceiling) return Promise.resolve({ outcome: "refused", code: "does_not_fit" });
      reserved += worst;
      return Promise.resolve({
        outcome: "admitted",
        body,
        started: () => undefined,
        ended: ({ costNanoUsd }) => {
          reserved -= worst;
          spent += costNanoUsd;
          return Promise.resolve();
        },
      });
    },
  };
}
