/**
 * Owns judging a schedule: what the books say is read from their entries, summed up again by filtering a list of calls, and held against
 * the limits and the provider's bill. Shares no code with what it judges but the shapes of limits and entries.
 */
import type { CallFacts, Candidate } from "../../src/core/decisions/call.ts";
import type { NewEntry } from "../../src/core/decisions/operations.ts";
import type { ScopeState } from "../../src/core/decisions/counters.ts";
import type { Limit, Scopes } from "../../src/core/limits/limit.ts";
import { costOf, mostTokens, type Exchange, type ModelName } from "./upstream.ts";

const HOUR_MS = 3_600_000;

/** One admitted call as the entries tell it. */
interface Kept {
  callId: string;
  atMs: number;
  scopes: Scopes;
  model: string;
  status: "open" | "settled" | "voided" | "expired";
  usd: bigint;
  input: number;
  output: number;
  /** What corrections since its ending come to. */
  adjusted: bigint;
  actual: { usd: bigint; input: number; reads: number; output: number } | undefined;
}

/** What was asked for a call, for judging its bound. */
export interface Asked {
  bytes: number;
  maxTokens: number;
  cache: "none" | "5m" | "1h";
}

export type Tally = Record<string, number>;

export class Oracle {
  readonly violations: string[] = [];
  readonly calls = new Map<string, Kept>();
  readonly exchanges = new Map<string, Exchange>();
  /** By call id: let through without the ledger, so that the books know of it later only. */
  readonly bypassed = new Set<string>();
  /** Handed to the network, whether or not the provider has it already. */
  readonly sent = new Set<string>();
  readonly tally: Tally;
  readonly #asked: (scopes: Scopes) => Asked | undefined;
  limits: readonly Limit[] = [];
  #read = 0;
  /** Exchanges whose bill can still change, or whose books can. */
  readonly #unsettled = new Set<string>();

  constructor(tally: Tally, asked: (scopes: Scopes) => Asked | undefined) {
    this.tally = tally;
    this.#asked = asked;
  }

  count(what: string, by = 1): void {
    this.tally[what] = (this.tally[what] ?? 0) + by;
  }

  blame(rule: string, text: string): void {
    this.violations.push(`${rule}: ${text}`);
  }

  /** Reads what was written since the last time. */
  readEntries(entries: readonly NewEntry[]): void {
    for (; this.#read < entries.length; this.#read += 1) {
      const entry = entries[this.#read];
      if (entry !== undefined) this.#readEntry(entry);
    }
  }

  accept(callId: string, exchange: Exchange): void {
    if (this.exchanges.has(callId)) this.blame("once", `${callId} was sent twice`);
    this.exchanges.set(callId, exchange);
    this.#unsettled.add(callId);
  }

  /** I1: at every instant the books hold at least what the provider bills, for each call by itself. */
  checkBill(nowMs: number): void {
    for (const callId of this.#unsettled) {
      const exchange = this.exchanges.get(callId);
      if (exchange === undefined) continue;
      const call = this.calls.get(callId);
      const billed = exchange.billedNanoUsd(nowMs);
      if (call === undefined && this.bypassed.has(callId)) continue;
      const booked = call === undefined || call.status === "voided" ? 0n : (call.actual?.usd ?? call.usd);
      // What the provider bills above every bound is an overrun: nobody can hold it before it is told.
      const isAbove = exchange.end === "above" && (call?.status !== "settled" || exchange.toldNanoUsd === undefined);
      if (booked < billed && !isAbove) {
        this.blame("I1", `${callId} is billed ${billed} and booked ${call?.status ?? "nowhere"} at ${booked} (${exchange.end})`);
        this.#unsettled.delete(callId);
      }
      if (exchange.isOver(nowMs) && call !== undefined && call.status !== "open") this.#unsettled.delete(callId);
    }
  }

  #readEntry(entry: NewEntry): void {
    const { callId, body } = entry;
    const call = this.calls.get(callId);
    switch (body.kind) {
      case "reserved": {
        if (call !== undefined) this.blame("I6", `${callId} was reserved twice`);
        const { decision } = body;
        const kept: Kept = {
          callId,
          atMs: entry.atMs,
          scopes: body.call.scopes,
          model: decision.canonicalModel,
          status: "open",
          usd: decision.usdBound ?? 0n,
          input: decision.inputTokensBound,
          output: decision.outputTokensBound,
          adjusted: 0n,
          actual: undefined,
        };
        this.calls.set(callId, kept);
        this.count("reserved");
        for (const mark of decision.marks) this.count(mark);
        this.#checkBound(kept);
        if (decision.isForced !== true) this.#checkCeilings(kept, decision.marks.includes("graced"));
        return;
      }
      case "renewed":
        if (call?.status !== "open") return this.blame("I6", `${callId} was lowered while ${call?.status ?? "unknown"}`);
        call.usd = body.usdBound ?? call.usd;
        call.input = body.inputTokensBound;
        call.output = body.outputTokensBound;
        return this.count("renewed");
      case "settled": {
        const isLate = call?.status === "expired";
        if (call === undefined || (call.status !== "open" && !isLate)) {
          return this.blame("I6", `${callId} was settled while ${call?.status ?? "unknown"}`);
        }
        call.status = "settled";
        // Corrected by a person before anything was told: what is told takes the place of that.
        call.adjusted = 0n;
        const { tokens } = body.result;
        const input = tokens.uncachedInputTokens + tokens.cacheReadTokens + tokens.cacheWrite5mTokens + tokens.cacheWrite1hTokens;
        call.actual = { usd: entry.costNanoUsd ?? call.usd, input, reads: tokens.cacheReadTokens, output: tokens.outputTokens };
        this.count(isLate ? "settled late" : "settled");
        return this.#checkSettled(call);
      }
      case "voided":
        if (call?.status !== "open") return this.blame("I6", `${callId} was voided while ${call?.status ?? "unknown"}`);
        call.status = "voided";
        return this.count("voided");
      case "expired":
        if (call?.status !== "open") return this.blame("I6", `${callId} expired while ${call?.status ?? "unknown"}`);
        call.status = "expired";
        return this.count("expired");
      case "denied":
        this.count(`denied ${body.code}`);
        return this.#checkDenied(entry.atMs, body);
      case "adjusted":
        if (call === undefined || call.status === "open" || call.status === "voided") {
          return this.blame("I6", `${callId} was corrected while ${call?.status ?? "unknown"}`);
        }
        call.adjusted += body.deltaNanoUsd;
        return this.count("corrected");
      case "alert":
        return this.count("alerts");
      case "filled":
        return this.count("filled");
      default:
        // Entries that move no money are none of its business.
        return;
    }
  }

  /** A settlement is the bill where that was told, and never above what was held but for an overrun. */
  #checkSettled(call: Kept): void {
    const exchange = this.exchanges.get(call.callId);
    const { actual } = call;
    if (actual === undefined) return;
    if (exchange === undefined) {
      if (!this.sent.has(call.callId)) this.blame("I6", `${call.callId} is settled at ${actual.usd} and was never sent`);
      return;
    }
    const told = exchange.toldNanoUsd;
    if (told !== undefined && told !== actual.usd)
      this.blame("I6", `${call.callId} is settled at ${actual.usd}, the bill is ${told}`);
    if (told !== undefined) this.count("settled at the told bill");
    // Told more than anything bounds: counted in full, and told.
    if (exchange.end === "above") return this.count("settled without a bound");
    if (actual.usd > call.usd || actual.input > call.input || actual.output > call.output) {
      const [found, held] = [actual, call].map(({ usd, input, output }) => `${usd} (input ${input}, output ${output})`);
      this.blame("bound", `${call.callId} settled above what it held: ${found} of ${held}, ${exchange.end}`);
    }
  }

  /** What is held is proven, and no more than the bytes and max_tokens of the request can cost. */
  #checkBound(call: Kept): void {
    const asked = this.#asked(call.scopes);
    if (asked === undefined) return this.blame("scope", `${call.callId} stands in the books and nobody asked for it`);
    const most = mostTokens(asked);
    const usd = costOf(call.model as ModelName, most, true);
    if (call.usd > usd) this.blame("bound", `${call.callId} holds ${call.usd}, it can cost ${usd}`);
    if (call.input > asked.bytes || call.output > asked.maxTokens)
      this.blame("bound", `${call.callId} holds more tokens than it has`);
  }

  /** I2: with this call in it, every limit that refuses still holds, to the unit. */
  #checkCeilings(call: Kept, isGraced: boolean): void {
    for (const limit of this.limits) {
      const ceiling = ceilingOf(limit, isGraced);
      if (ceiling === undefined) continue;
      for (const scope of scopesUnder(limit, call.scopes, call.model)) {
        const { spent, reserved } = this.totals(limit, scope, call.atMs, 0);
        // Explicitly free calls do not occur here, so every limit that matches counts.
        if (spent + reserved > ceiling) {
          this.blame("I2", `${call.callId} was admitted: ${limit.name} ${scope} holds ${spent} + ${reserved} of ${ceiling}`);
        } else if (spent + reserved === ceiling) this.count("filled to the last unit");
      }
    }
  }

  /** No false refusal: the limit it names would not have taken it with nothing in flight. */
  #checkDenied(atMs: number, body: Extract<NewEntry["body"], { kind: "denied" }>): void {
    const { code, view, decision, call } = body;
    if (decision === undefined || view === undefined) return;
    const limit = this.limits.find(({ name }) => name === view.limit);
    if (limit === undefined) return this.blame("refusal", `${call.callId} was refused by ${view.limit}, which is not in force`);
    const asked = this.#asked(call.scopes);
    if (asked === undefined) return this.blame("scope", `${call.callId} was refused and nobody asked for it`);
    const output = limit.fit === "off" ? asked.maxTokens : this.#usefulTokens(call.scopes, asked.maxTokens, decision.admit.fit);
    const input = decision.inputTokensBound;
    // Asked for with less output it is held at its input's share of the dearest rate and at that output.
    const most = mostTokens({ bytes: input, maxTokens: output, cache: asked.cache });
    const usd = costOf(decision.canonicalModel as ModelName, most, true);
    if ((decision.usdBound ?? 0n) > costOf(decision.canonicalModel as ModelName, mostTokens(asked), true)) {
      this.blame("bound", `${call.callId} was refused for a bound of ${decision.usdBound}`);
    }
    const bound = amountFor(limit, { usd, input, output });
    const ceiling = ceilingOf(limit, false) ?? 0n;
    const { spent } = this.#mostTotals(limit, call, decision.canonicalModel, atMs);
    if (spent + bound > ceiling) return;
    // A pace refuses too, where its next start is too far away.
    if (code === "rate_limited" && limit.thresholds.some(({ actions }) => actions.some(({ kind }) => kind === "throttle")))
      return;
    this.blame("refusal", `${call.callId} was refused (${code}) by ${limit.name}: ${spent} + ${bound} fits ${ceiling}`);
  }

  /** The smallest output that is still of use: as the engine says, which may be no more than its agent was seen to write, or 1,024. */
  #usefulTokens(scopes: Scopes, asked: number, fit: { leastMaxTokens: number } | undefined): number {
    const least = fit?.leastMaxTokens ?? asked;
    const isAnothers = (call: Kept | undefined): boolean =>
      call !== undefined && (call.scopes.agent !== scopes.agent || call.scopes.project !== scopes.project);
    // What an engine saw of a call may not be in the books yet.
    const seen = [...this.exchanges].filter(([callId]) => !isAnothers(this.calls.get(callId)));
    const most = Math.max(1_024, ...seen.map(([, { tokens }]) => tokens.output));
    if (least > Math.min(asked, most)) this.blame("fit", `of ${asked} tokens ${least} are the least of use, at most ${most}`);
    this.count(least < asked ? "refused in its smallest form" : "refused as asked");
    return least;
  }

  #mostTotals(limit: Limit, call: CallFacts, model: string, atMs: number): { spent: bigint; reserved: bigint } {
    return scopesUnder(limit, call.scopes, model)
      .map((scope) => this.totals(limit, scope, atMs, slackOf(limit)))
      .reduce((most, next) => (next.spent > most.spent ? next : most), { spent: 0n, reserved: 0n });
  }

  /** Limits of the ones in force that leave no room for a call now, each with the scope value; `slackMs`: at some instant since. */
  blockedBy(call: CallFacts, candidate: Candidate, atMs: number, slackMs: number): Set<string> {
    const held = { usd: candidate.usdBound ?? 0n, input: candidate.inputTokensBound, output: candidate.outputTokensBound };
    const blocked = new Set<string>();
    for (const limit of this.limits) {
      const ceiling = ceilingOf(limit, false);
      if (ceiling === undefined) continue;
      for (const scope of scopesUnder(limit, call.scopes, candidate.canonicalModel)) {
        const isFull = [atMs, atMs - slackMs].some((instant) => {
          const { spent, reserved } = this.totals(limit, scope, instant, slackOf(limit));
          return spent + reserved + amountFor(limit, held) > ceiling;
        });
        if (isFull) blocked.add(`${limit.name} ${scope}`);
      }
    }
    return blocked;
  }

  placesOf(call: CallFacts, candidate: Candidate): string[] {
    return this.limits.flatMap((limit) =>
      scopesUnder(limit, call.scopes, candidate.canonicalModel).map((scope) => `${limit.name} ${scope}`),
    );
  }

  /** Spent and reserved under a limit for one scope value at an instant. `slackMs`: so much longer for a rolling one. */
  totals(limit: Limit, scope: string, atMs: number, slackMs: number): { spent: bigint; reserved: bigint } {
    const [fromMs, toMs] = windowOf(limit, atMs, slackMs);
    let spent = 0n;
    let reserved = 0n;
    for (const call of this.calls.values()) {
      if (call.status === "voided" || call.atMs < fromMs || call.atMs >= toMs) continue;
      if (!scopesUnder(limit, call.scopes, call.model).includes(scope)) continue;
      const isOpen = call.status === "open";
      if (limit.measure === "requests") spent += 1n;
      else if (limit.measure === "concurrency") reserved += isOpen ? 1n : 0n;
      else if (isOpen) reserved += amountFor(limit, call);
      else spent += amountFor(limit, call.actual ?? call) + (limit.measure === "usd" ? call.adjusted : 0n);
    }
    return { spent, reserved };
  }

  /** I3 and the books as a whole: with nothing in flight nothing is held, and every counter says what its calls come to. */
  checkQuiet(states: ReadonlyMap<string, ScopeState>, nowMs: number): void {
    for (const { callId, status } of this.calls.values()) if (status === "open") this.blame("I3", `${callId} is still open`);
    for (const [scopeKey, { counters }] of states) {
      for (const [what, series] of counters) {
        for (const [key, { spent, reserved }] of series) {
          if (reserved !== 0n) this.blame("I3", `${scopeKey} ${what} ${key} still holds ${reserved}`);
          if (spent < 0n) this.blame("I6", `${scopeKey} ${what} ${key} has spent ${spent}`);
        }
      }
    }
    for (const limit of this.limits) {
      if (limit.where.length > 0 || limit.measure === "concurrency" || limit.per.length > 1) continue;
      this.#compareCounters(limit, states, nowMs);
    }
    for (const [callId, exchange] of this.exchanges) {
      if (this.calls.get(callId) === undefined && exchange.bills && !this.bypassed.has(callId)) {
        this.blame("I1", `${callId} was billed and is not in the books`);
      }
    }
  }

  /** What all windows of a limit hold together, over all its scope values, against the calls themselves. */
  #compareCounters(limit: Limit, states: ReadonlyMap<string, ScopeState>, nowMs: number): void {
    if (limit.window.kind !== "lifetime" || limit.per.includes("session")) return;
    const name = `${limit.measure}${limit.cacheReads === "ignore" ? "-reads" : ""}@life`;
    const per = limit.per[0] ?? "all";
    let counted = 0n;
    for (const [scopeKey, { counters }] of states) {
      const isOfLimit =
        per === "all" ? scopeKey === "all" : scopeKey.startsWith(`${per.replace(":", ":")}=`) && !scopeKey.includes("&");
      if (isOfLimit) for (const { spent } of counters.get(name)?.values() ?? []) counted += spent;
    }
    let booked = 0n;
    const scopes = new Set([...this.calls.values()].flatMap((call) => scopesUnder(limit, call.scopes, call.model)));
    for (const scope of scopes) booked += this.totals(limit, scope, nowMs, 0).spent;
    if (counted !== booked) this.blame("books", `${limit.name} counts ${counted}, its calls come to ${booked}`);
    else this.count("counters compared");
  }
}

function amountFor(limit: Limit, amounts: { usd: bigint; input: number; output: number; reads?: number }): bigint {
  const { usd, input, output, reads = 0 } = amounts;
  const counted = limit.cacheReads === "ignore" ? input - reads : input;
  switch (limit.measure) {
    case "usd":
      return usd;
    case "tokens":
      return BigInt(counted + output);
    case "inputTokens":
      return BigInt(counted);
    case "outputTokens":
      return BigInt(output);
    case "requests":
    case "concurrency":
    case "toolCalls":
      return 1n;
  }
}

/** Above this nothing is admitted; a session that `grace` lets finish has the overdraft on top. */
function ceilingOf(limit: Limit, isGraced: boolean): bigint | undefined {
  for (const { amount, actions } of limit.thresholds) {
    const grace = actions.find((action) => action.kind === "grace");
    if (grace?.kind === "grace") return isGraced ? amount + (amount * BigInt(grace.overdraftBps)) / 10_000n : amount;
    if (actions.some(({ kind }) => kind === "stop" || kind === "pause")) return amount;
  }
  return undefined;
}

/** Half-open. A rolling one has no end: what a clock set back left ahead of it counts. */
function windowOf({ measure, window }: Limit, atMs: number, slackMs: number): [fromMs: number, toMs: number] {
  if (measure === "concurrency" || window.kind === "lifetime") return [-Infinity, Infinity];
  if (window.kind === "rolling") return [atMs - window.lengthMs + 1 - slackMs, Infinity];
  const offsetMs = window.timeZone === "Asia/Kolkata" ? 5.5 * HOUR_MS : 0;
  // The epoch was a Thursday: three days after a Monday.
  const [lengthMs, shiftMs] =
    window.unit === "hour" ? [HOUR_MS, 0] : window.unit === "week" ? [168 * HOUR_MS, 72 * HOUR_MS] : [24 * HOUR_MS, 0];
  const fromMs = Math.floor((atMs + offsetMs + shiftMs) / lengthMs) * lengthMs - offsetMs - shiftMs;
  return [fromMs, fromMs + lengthMs];
}

/** Money of a rolling window may come back a sixtieth of its length late. */
function slackOf({ window }: Limit): number {
  return window.kind === "rolling" ? Math.ceil(window.lengthMs / 60) + 1 : 0;
}

/** The scope values of a call under a limit, each as text. */
function scopesUnder(limit: Limit, scopes: Scopes, model: string): string[] {
  const valuesOf = (name: string): string[] => {
    if (name === "all") return [""];
    if (name === "model") return [model];
    // Session names are the caller's own: under different keys the same name is two sessions.
    if (name === "session") return [scopes.session, ...scopes.parentSessions].map((session) => `${session} of ${scopes.key}`);
    if (name.startsWith("tag:")) return [scopes.tags[name.slice(4)] ?? "default"];
    return [scopes[name as "project" | "agent" | "user" | "key" | "task"]];
  };
  const isMeant = limit.where.every(({ scope, anyOf }) =>
    anyOf.some(({ text, isPrefix }) => (isPrefix ? valuesOf(scope)[0]?.startsWith(text) : valuesOf(scope)[0] === text)),
  );
  if (!isMeant) return [];
  return [
    ...new Set(
      limit.per.reduce<string[]>(
        (partial, name) => partial.flatMap((scope) => valuesOf(name).map((value) => `${scope}/${value}`)),
        [""],
      ),
    ),
  ];
}
