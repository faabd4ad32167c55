/**
 * Owns what a call's input is proven to be because it extends an earlier call of its session (design §4).
 * Does not own the bound by bytes (providers/), the context window (candidates.ts) or which session a call is of (sessions.ts).
 * Invariants: only calls of one owner, session and model meet, and only where all that is read besides the messages is the same to the
 * byte; only what was reported finally, of one sampling and without a doubt is remembered; nothing stored can be traced to a prompt;
 * memory is bounded, and forgetting costs room in a limit, never a wrong bound. docs/bounds.md proves it.
 */
import type { Extension } from "../core/decisions/call.ts";
import { totalInputTokens, type Usage } from "../core/usage/usage.ts";
import type { PaidApi, RequestFacts, Span } from "../providers/provider.ts";
import { IdleMap } from "./idle-map.ts";
import type { Clock, FingerprintChain } from "./ports.ts";

/** A call that nothing extended for this long is forgotten. */
export const EXTENSION_IDLE_MS_MAX = 30 * 60_000;
/** So many calls are remembered; the oldest is forgotten first. */
export const EXTENSIONS_MAX = 10_000;

/** A call as it is recognised by what extends it. */
export interface Conversation {
  /** Its owner, session, and all that is read besides its messages. */
  frame: string;
  /** The fingerprints of its first message, its first two, … */
  chain: readonly string[];
  /** Bytes of cache marks in each message: fingerprints do not see them. */
  markBytes: readonly number[];
  facts: RequestFacts;
}

export interface Extensions {
  /** @returns `undefined` where what one call read proves nothing of another. */
  conversationOf(input: {
    /** Sessions of different keys never meet, whatever they are called. */
    owner: string;
    session: string;
    /** What stands outside the body and may change how it is read. */
    variant: string;
    body: Uint8Array;
    facts: RequestFacts;
    chain: readonly string[];
    markBytes: readonly number[];
  }): Conversation | undefined;
  /** Remembers what the provider finally reported of a call that ran on this model. */
  note(conversation: Conversation, model: string, usage: Usage): void;
  /** How much its input is at most, by the longest call it extends; `undefined`: it extends none that is remembered. */
  boundOf(conversation: Conversation, provider: PaidApi, model: { canonicalModel: string; model: string }): Extension | undefined;
}

export function createExtensions(deps: { clock: Clock; fingerprints: FingerprintChain }): Extensions {
  const { clock, fingerprints } = deps;
  const byKey = new IdleMap<{ inputTokens: number; outputTokens: number }>({
    sizeMax: EXTENSIONS_MAX,
    idleMsMax: EXTENSION_IDLE_MS_MAX,
  });

  return {
    conversationOf({ owner, session, variant, body, facts, chain, markBytes }) {
      if (!isReadWhole(facts)) return undefined;
      const { clientToolTypes, isToolForced } = facts;
      const pieces = piecesAround(body, facts);
      // Tools may be defined in the messages too, and what they bring along is in no message's bytes: their types must be the same.
      const outside = JSON.stringify([
        owner,
        session,
        variant,
        clientToolTypes,
        isToolForced,
        pieces.map(({ length }) => length),
      ]);
      const [frame] = fingerprints([joined(bytesOf(outside), pieces)]);
      return frame === undefined ? undefined : { frame, chain, markBytes, facts };
    },
    note({ frame, chain, facts }, model, usage) {
      const [sampling] = usage.samplings;
      const last = chain.at(-1);
      // A turn that the caller began and the model went on with is not closed: what follows may be read together with it.
      if (last === undefined || facts.messageSpans.at(-1)?.isAssistant === true) return;
      if (sampling?.kind !== "message" || usage.samplings.length > 1 || usage.flags.length > 0) return;
      const inputTokens = totalInputTokens(sampling.tokens);
      if (inputTokens === 0) return;
      const nowMs = clock.nowMs();
      byKey.put(keyOf(frame, model, last), { inputTokens, outputTokens: sampling.tokens.outputTokens }, nowMs);
      byKey.forget(nowMs);
    },
    boundOf({ frame, chain, markBytes, facts }, provider, { canonicalModel, model }) {
      byKey.forget(clock.nowMs());
      for (let count = chain.length; count > 0; count -= 1) {
        const known = byKey.get(keyOf(frame, canonicalModel, chain[count - 1] ?? ""));
        if (known === undefined) continue;
        const [answer, ...added] = facts.messageSpans.slice(count);
        // Another user turn right behind is read as one with the last: only a turn of the model's own ends what was read.
        if (answer?.isAssistant === false) return undefined;
        const marks = markBytes.slice(0, count).reduce((sum, bytes) => sum + bytes, 0);
        const newTokens = provider.boundMessageTokens(added, model) + marks;
        const answerTokens = answer === undefined ? 0 : provider.boundMessageTokens([answer], model);
        return { inputTokens: known.inputTokens, outputTokens: known.outputTokens, answerTokens, newTokens };
      }
      return undefined;
    },
  };
}

/** Every character as two bytes. */
function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(2 * text.length);
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    bytes[2 * index] = code >> 8;
    bytes[2 * index + 1] = code & 0xff;
  }
  return bytes;
}

/** Which piece ends where, the first says. */
function joined(first: Uint8Array, pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, first.length));
  whole.set(first);
  let at = first.length;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function keyOf(frame: string, model: string, fingerprint: string): string {
  return `${frame} ${fingerprint} ${model}`;
}

/** True if all that the model reads is in the body, is read once, and is not shortened on the way. */
function isReadWhole(facts: RequestFacts): boolean {
  const { remoteInputs, serverTools, unboundedParts, samplingsMax, isHistoryEdited } = facts;
  const hasOthers = remoteInputs.length > 0 || serverTools.length > 0 || unboundedParts.length > 0;
  return !hasOthers && samplingsMax === 1 && !isHistoryEdited;
}

/** The body without its messages and the two values that decisions replace: neither is read as text. */
function piecesAround(body: Uint8Array, { spans, messageSpans }: RequestFacts): Uint8Array[] {
  const [first] = messageSpans;
  const last = messageSpans.at(-1);
  const messages = first === undefined || last === undefined ? undefined : { start: first.start, end: last.end };
  const left = [spans.model, spans.maxTokens, messages].filter((span): span is Span => span !== undefined);
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (const { start, end } of left.toSorted((one, other) => one.start - other.start)) {
    pieces.push(body.subarray(at, start));
    at = end;
  }
  return [...pieces, body.subarray(at)];
}
