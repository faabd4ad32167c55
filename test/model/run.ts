/**
 * Carries out a program on two ledgers step by step, and compares what they answer with each other and with the oracle.
 */
import { expect } from "vitest";
import type { CallFacts, Candidate } from "../../src/core/decisions/call.ts";
import {
  compileLimits,
  keptAfterMs,
  scopeKeyOf,
  totalsOf,
  type CompiledLimit,
  type ScopeState,
} from "../../src/core/decisions/counters.ts";
import { seriesIdOf } from "../../src/core/decisions/fill.ts";
import type {
  AdjustOperation,
  CallResult,
  Operation,
  OperationResult,
  ReserveOperation,
  ReserveResult,
} from "../../src/core/decisions/operations.ts";
import type { Limit } from "../../src/core/limits/limit.ts";
import { toNanoUsd } from "../../src/core/money/money.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { ceilingOf, scopesUnder, totalsUnder, type OracleCall } from "./oracle.ts";
import { START_MS, tokensOf, type Program, type Step } from "./programs.ts";

/** A run is judged step by step, outside of the test's own lines. */
const assertThat = expect;

/** How often each kind of answer was given: a run that never met a limit proves nothing. */
export type Tally = Record<string, number>;

/** The ledger under test and how it is closed and opened again. */
export interface Subject {
  ledger: Ledger;
  reopen(): Promise<Ledger>;
}

interface Known {
  operation: ReserveOperation;
  oracle: OracleCall | undefined;
  /** Asked again when woken. */
  isWaiting: boolean;
  result: CallResult | undefined;
  adjustments: AdjustOperation[];
}

/** One program's run. */
export class Run {
  readonly #model: Ledger;
  readonly #subject: Subject;
  readonly #program: Program;
  readonly #tally: Tally;
  readonly #known: Known[] = [];
  #limits: Limit[] = [];
  #compiled: readonly CompiledLimit[] = [];
  /** When a series was filled from the calls there were: it knows nothing of windows that were over for long by then. */
  readonly #filledAtMs = new Map<string, number>();
  #nowMs = START_MS;
  #lastCallId = 0;
  #configCount = 0;

  constructor(model: Ledger, subject: Subject, program: Program, tally: Tally) {
    this.#model = model;
    this.#subject = subject;
    this.#program = program;
    this.#tally = tally;
  }

  async all(): Promise<void> {
    await this.#configure(0);
    for (const step of this.#program.steps) await this.#step(step);
    await this.#compareViews();
    await this.#endEverything();
    await this.#compareViews();
  }

  #count(what: string, by = 1): void {
    this.#tally[what] = (this.#tally[what] ?? 0) + by;
  }

  async #apply(operation: Operation): Promise<OperationResult> {
    const [expected] = await this.#model.apply([operation]);
    const [actual] = await this.#subject.ledger.apply([operation]);

    if (actual === undefined) throw new Error("an operation without an answer");
    // What an ending said again once freed only wakes who may wait: a store may remember what was held at first.
    if (actual.outcome === "already_done")
      assertThat({ ...actual, freedCounterIds: [] }).toEqual({ ...expected, freedCounterIds: [] });
    else assertThat(actual).toEqual(expected);
    return actual;
  }

  async #configure(pick: number): Promise<void> {
    const config = this.#program.configs[pick % this.#program.configs.length];
    this.#configCount += 1;
    this.#limits = config?.limits ?? [];
    const rules = { version: `v${this.#configCount}`, limits: this.#limits, downgrade: new Map([["big-1", "small-1"]]) };
    const before = new Set(this.#compiled.map(seriesIdOf));
    this.#compiled = compileLimits(rules).limits;
    for (const series of this.#compiled.map(seriesIdOf)) if (!before.has(series)) this.#filledAtMs.set(series, this.#nowMs);
    await this.#model.configure({ ...rules, atMs: this.#nowMs });
    await this.#subject.ledger.configure({ ...rules, atMs: this.#nowMs });
    await this.#compareTotals();
  }

  async #step(step: Step): Promise<void> {
    switch (step.kind) {
      case "reserve":
        return this.#reserve(this.#newReserve(step));
      case "wake":
        return this.#wake(step.pick);
      case "repeatReserve": {
        const known = this.#pick(step.pick, ({ isWaiting }) => !isWaiting);
        if (known === undefined) return;
        const result = await this.#apply(known.operation);
        assertThat(result).toEqual({ kind: "reserve", outcome: "duplicate" });
        return;
      }
      case "settle":
        return this.#settle(step);
      case "repeatSettle":
        return this.#repeatSettle(step);
      case "renew":
        return this.#renew(step);
      case "void":
      case "expire":
        return this.#end(
          step.kind,
          this.#pick(step.pick, ({ oracle }) => oracle !== undefined),
        );
      case "adjust":
        return this.#adjust(step);
      case "refuse": {
        const call = this.#facts(step.scopes, { hasAssistantTurn: false, isAnsweringTool: false, hasThinking: false });
        await this.#apply({ kind: "refuse", atMs: this.#nowMs, call, code: "unpriced_model", view: undefined });
        return;
      }
      case "clock":
        this.#nowMs = Math.max(START_MS - 400 * 86_400_000, this.#nowMs + step.byMs);
        return;
      case "configure":
        return this.#configure(step.pick);
      case "reopen":
        this.#subject.ledger = await this.#subject.reopen();
        return;
    }
  }

  #pick(pick: number, isMeant: (known: Known) => boolean): Known | undefined {
    const meant = this.#known.filter(isMeant);
    return meant[pick % Math.max(1, meant.length)];
  }

  #facts(scopes: CallFacts["scopes"], history: CallFacts["history"]): CallFacts {
    this.#lastCallId += 1;
    return {
      callId: `call-${this.#lastCallId}`,
      scopes,
      provider: "anthropic",
      requestedModel: "big-1",
      attempt: 0,
      isStream: false,
      attribution: { user: `said-${scopes.user}`, tags: { ...scopes.tags, said: "yes" } },
      history,
    };
  }

  #newReserve(step: Extract<Step, { kind: "reserve" }>): Known {
    const { scopes, candidates, history, isForced, isHeldBack } = step;
    const first = this.#compiled[0];
    const series =
      first === undefined ? [] : scopesUnder(first.limit, scopes, "big-1").map((scope) => `${scopeKeyOf(scope)} ${first.what}`);
    const operation: ReserveOperation = {
      kind: "reserve",
      atMs: this.#nowMs,
      ownerId: `owner-${this.#lastCallId % 2}`,
      call: this.#facts(scopes, history),
      candidates,
      heldBack: isHeldBack ? series : [],
      grantedStartsMs: {},
      isForced,
    };
    return { operation, oracle: undefined, isWaiting: false, result: undefined, adjustments: [] };
  }

  async #wake(pick: number): Promise<void> {
    const known = this.#pick(pick, ({ isWaiting }) => isWaiting);
    if (known === undefined) return;
    this.#known.splice(this.#known.indexOf(known), 1);
    known.operation = { ...known.operation, atMs: this.#nowMs, heldBack: [] };
    known.isWaiting = false;
    await this.#reserve(known);
  }

  async #reserve(known: Known): Promise<void> {
    const result = (await this.#apply(known.operation)) as ReserveResult;
    if (result.outcome === "uncounted") return this.#reserveUncounted(known);
    this.#known.push(known);
    this.#count(result.outcome === "denied" ? `denied ${result.code}` : result.outcome);
    switch (result.outcome) {
      case "reserved":
        if (result.marks.includes("fitted")) this.#assertAsLargeAsFits(known.operation, result.candidate);
        known.oracle = this.#admit(known.operation, result.candidate);
        for (const mark of result.marks) this.#count(mark);
        this.#count("alerts told", result.alerts.length);
        if (known.operation.isForced !== true) this.#assertBelowCeilings(known.oracle, result.marks.includes("graced"));
        return;
      case "wait":
        known.isWaiting = true;
        if (known.operation.heldBack.length === 0) this.#assertThereWasNoRoom(known.operation);
        if (result.pause !== undefined) this.#pause(known, result.pause.sinceMs, result.untilMs);
        return;
      case "throttled":
        known.isWaiting = true;
        known.operation = {
          ...known.operation,
          grantedStartsMs: { ...known.operation.grantedStartsMs, ...result.grantedStartsMs },
        };
        return;
      case "denied":
        if (result.code === "limit_reached" || result.code === "limit_too_small")
          this.#assertThereWasNoRoom(known.operation, true);
        return;
      case "duplicate":
        throw new Error("a call that was never admitted is a duplicate");
      case "left_out":
        throw new Error("a call by itself was left out of a batch");
    }
  }

  /** It would have been refused or told to wait; whoever cannot count asks again, and is. */
  async #reserveUncounted(known: Known): Promise<void> {
    this.#count("uncounted");
    if (known.operation.heldBack.length === 0) this.#assertThereWasNoRoom(known.operation);
    const candidates = known.operation.candidates.map((candidate) => ({ ...candidate, isCountable: false }));
    known.operation = { ...known.operation, candidates };
    await this.#reserve(known);
    if (known.oracle?.status === "open") throw new Error("a call was admitted that had to be counted first");
  }

  /** A pause begins once, however often the call is woken in it, and ends in time. */
  #pause(known: Known, sinceMs: number, untilMs: number): void {
    const { operation } = known;
    const upTo = this.#limits.flatMap(({ thresholds }) => thresholds.flatMap(({ actions }) => actions));
    const most = Math.max(0, ...upTo.map((action) => (action.kind === "pause" ? action.upToMs : 0)));
    assertThat(sinceMs).toBe(operation.pausedSinceMs ?? operation.atMs);
    assertThat(untilMs).toBeGreaterThan(operation.atMs);
    assertThat(untilMs).toBeLessThanOrEqual(sinceMs + most);
    known.operation = { ...operation, pausedSinceMs: sinceMs };
    this.#count("paused");
  }

  #admit({ call, atMs }: ReserveOperation, candidate: Candidate): OracleCall {
    const { callId, scopes } = call;
    const { canonicalModel: model, usdBound, inputTokensBound: input, outputTokensBound: output } = candidate;
    return {
      callId,
      atMs,
      scopes,
      model,
      status: "open",
      bound: { usd: usdBound ?? 0n, input, output },
      adjusted: 0n,
      actual: undefined,
    };
  }

  #oracles(): OracleCall[] {
    return this.#known.flatMap(({ oracle }) => (oracle === undefined ? [] : [oracle]));
  }

  /** False: the clock went back behind what the limit was filled with; such a limit is not judged. */
  #isJudged(limit: Limit): boolean {
    const compiled = this.#compiled.find((one) => one.limit === limit);
    if (compiled === undefined) throw new Error("a limit that is not in force");
    return this.#nowMs + keptAfterMs(compiled.what) > (this.#filledAtMs.get(seriesIdOf(compiled)) ?? 0);
  }

  /** The promise of a hard limit: whoever is admitted fits, with all that runs. */
  #assertBelowCeilings({ scopes, model, bound }: OracleCall, isGraced: boolean): void {
    for (const limit of this.#limits) {
      const ceiling = ceilingOf(limit);
      if (ceiling === undefined || !this.#isJudged(limit)) continue;
      // What is free is served whatever was spent.
      if (limit.measure === "usd" && bound.usd === 0n) continue;
      const overdraft = isGraced && limit.thresholds.some(({ actions }) => actions.some(({ kind }) => kind === "grace"));
      const most = overdraft ? (ceiling * 12n) / 10n : ceiling;
      for (const scope of scopesUnder(limit, scopes, model)) {
        const { spent, reserved } = totalsUnder(this.#oracles(), { limit, scope, atMs: this.#nowMs, slackMs: 0 });

        assertThat(spent + reserved, `${limit.name} ${JSON.stringify(scope)}`).toBeLessThanOrEqual(most);

        this.#count("admissions under a ceiling checked");
      }
    }
  }

  /** The other promise: nothing is held up while there is money. A rolling limit counts its oldest sixtieth whole. */
  #assertThereWasNoRoom({ call, candidates }: Pick<ReserveOperation, "call" | "candidates">, isRefused = false): void {
    const isFull = candidates.some((candidate) =>
      this.#limits.some((limit) => {
        const ceiling = ceilingOf(limit);
        if (ceiling === undefined || (limit.measure === "usd" && this.#boundOf(limit, call, candidate) === 0n)) return false;
        const slackMs = limit.window.kind === "rolling" ? (2 * limit.window.lengthMs) / 60 : 0;
        return scopesUnder(limit, call.scopes, candidate.canonicalModel).some((scope) => {
          const { spent, reserved } = totalsUnder(this.#oracles(), { limit, scope, atMs: this.#nowMs, slackMs });
          // What calls in flight hold refuses nobody, and neither does room for less than was asked.
          const saved = isRefused ? this.#savedByFitting(limit, candidate) : 0n;
          return spent + (isRefused ? 0n : reserved) + this.#boundOf(limit, call, candidate) - saved > ceiling;
        });
      }),
    );

    assertThat(isFull, `${call.callId} was held up although every limit had room`).toBe(true);

    this.#count("refusals for want of room checked");
  }

  /** A call that was made smaller did not fit as it was, and could not have been one token larger. */
  #assertAsLargeAsFits({ call, candidates }: ReserveOperation, given: Candidate): void {
    const asked = candidates.find(({ canonicalModel }) => canonicalModel === given.canonicalModel);
    const tokens = given.outputTokensBound;
    if (asked?.fit === undefined || asked.usdBound === undefined) throw new Error("made smaller without saying how");
    const sized = (outputTokensBound: number): Candidate => ({
      ...asked,
      outputTokensBound,
      usdBound: toNanoUsd((asked.usdBound ?? 0n) - BigInt(asked.outputTokensBound - outputTokensBound)),
    });

    assertThat(tokens).toBeGreaterThanOrEqual(asked.fit.leastMaxTokens);
    assertThat(tokens).toBeLessThanOrEqual(asked.outputTokensBound);
    assertThat(given).toMatchObject({ maxTokens: tokens, usdBound: sized(tokens).usdBound });
    this.#assertThereWasNoRoom({ call, candidates: [sized(Math.min(tokens + 1, asked.outputTokensBound))] });

    this.#count("calls made smaller checked");
  }

  #savedByFitting({ fit: fitting, measure }: Limit, { fit, outputTokensBound }: Candidate): bigint {
    const isOutputCounted = measure === "usd" || measure === "tokens" || measure === "outputTokens";
    return fit === undefined || fitting === "off" || !isOutputCounted ? 0n : BigInt(outputTokensBound - fit.leastMaxTokens);
  }

  #boundOf(limit: Limit, call: CallFacts, candidate: Candidate): bigint {
    const { inputTokensBound, outputTokensBound, canonicalModel, unboundedParts } = candidate;
    const reserves = this.#limits
      .filter((other) => unboundedParts.length > 0 && scopesUnder(other, call.scopes, canonicalModel).length > 0)
      .map(({ unboundedReserveNanoUsd }) => unboundedReserveNanoUsd ?? 0n);
    const usd = [candidate.usdBound ?? 0n, ...reserves].reduce((high, next) => (next > high ? next : high));
    switch (limit.measure) {
      case "usd":
        return usd;
      case "tokens":
        return BigInt(inputTokensBound + outputTokensBound);
      case "inputTokens":
        return BigInt(inputTokensBound);
      case "outputTokens":
        return BigInt(outputTokensBound);
      default:
        return 1n;
    }
  }

  async #settle({ pick, shareBps, isUnpriced, stopReason, readsBps }: Extract<Step, { kind: "settle" }>): Promise<void> {
    const known = this.#pick(pick, ({ oracle }) => oracle?.status === "open" || oracle?.status === "expired");
    if (known?.oracle === undefined) return;
    const { bound } = known.oracle;
    const tokens = tokensOf({ inputTokensBound: bound.input, outputTokensBound: bound.output }, shareBps, readsBps);
    const costNanoUsd = isUnpriced ? undefined : toNanoUsd((bound.usd * BigInt(shareBps)) / 10_000n);
    known.result = {
      costNanoUsd,
      tokens,
      costParts: [],
      priceIds: ["price"],
      webSearchRequests: 0,
      isEstimated: isUnpriced,
      flags: [],
      model: known.oracle.model,
      status: 200,
      stopReason,
      providerRequestId: "req_1",
      error: undefined,
    };
    this.#count(known.oracle.status === "expired" ? "settled late" : "settled");
    const answer = await this.#apply({ kind: "settle", atMs: this.#nowMs, callId: known.oracle.callId, result: known.result });
    assertThat(answer).toMatchObject({ outcome: "done" });
    known.oracle.status = "settled";
    known.oracle.adjusted = 0n;
    known.oracle.actual = {
      usd: costNanoUsd ?? bound.usd,
      input: tokens.uncachedInputTokens + tokens.cacheReadTokens,
      reads: tokens.cacheReadTokens,
      output: tokens.outputTokens,
    };
  }

  async #adjust({ pick, delta, isAgain }: Extract<Step, { kind: "adjust" }>): Promise<void> {
    const known = this.#pick(pick, ({ oracle }) => oracle !== undefined);
    if (known?.oracle === undefined) return;
    const { oracle } = known;
    const again = isAgain ? known.adjustments.at(-1) : undefined;
    const operation = again ?? {
      kind: "adjust" as const,
      atMs: this.#nowMs,
      callId: oracle.callId,
      adjustmentId: `adj-${known.adjustments.length}`,
      deltaNanoUsd: BigInt(delta),
      reason: "model test",
      by: "the model",
    };
    const answer = await this.#apply(operation);
    const cost = (oracle.actual?.usd ?? oracle.bound.usd) + oracle.adjusted + BigInt(delta);
    const expected =
      oracle.status === "open"
        ? "not_ended"
        : oracle.status === "voided"
          ? "nothing_sent"
          : again !== undefined
            ? "already_done"
            : cost < 0n
              ? "out_of_range"
              : "done";
    assertThat(answer).toMatchObject({ outcome: expected });
    this.#count(`adjust ${expected}`);
    if (expected !== "done") return;
    oracle.adjusted += BigInt(delta);
    known.adjustments.push(operation);
  }

  async #repeatSettle({ pick, isOther }: Extract<Step, { kind: "repeatSettle" }>): Promise<void> {
    const known = this.#pick(pick, ({ oracle }) => oracle?.status === "settled");
    if (known?.result?.costNanoUsd === undefined) return;
    const costNanoUsd = toNanoUsd(known.result.costNanoUsd + (isOther ? 1n : 0n));
    const result = { ...known.result, costNanoUsd };
    const answer = await this.#apply({ kind: "settle", atMs: this.#nowMs, callId: known.operation.call.callId, result });
    assertThat(answer).toMatchObject({ outcome: isOther ? "conflict" : "already_done" });
    this.#count(isOther ? "settled otherwise" : "settled again");
  }

  async #renew({ pick, shareBps }: Extract<Step, { kind: "renew" }>): Promise<void> {
    const known = this.#pick(pick, ({ oracle }) => oracle?.status === "open");
    if (known?.oracle === undefined) return;
    const { bound, callId } = known.oracle;
    const share = (value: number): number => Math.floor((value * shareBps) / 10_000);
    const next = { input: share(bound.input), output: share(bound.output), usd: (bound.usd * BigInt(shareBps)) / 10_000n };
    await this.#apply({
      kind: "renew",
      atMs: this.#nowMs,
      callId,
      usdBound: toNanoUsd(next.usd),
      inputTokensBound: next.input,
      outputTokensBound: next.output,
    });
    const isUnbounded =
      known.operation.candidates.find(({ canonicalModel }) => canonicalModel === known.oracle?.model)?.unboundedParts.length !==
      0;
    const isPriced =
      known.operation.candidates.find(({ canonicalModel }) => canonicalModel === known.oracle?.model)?.usdBound !== undefined;
    known.oracle.bound = {
      usd: isUnbounded || !isPriced || next.usd > bound.usd ? bound.usd : next.usd,
      input: Math.min(bound.input, next.input),
      output: Math.min(bound.output, next.output),
    };
    this.#count("renewed");
  }

  async #end(kind: "void" | "expire", known: Known | undefined): Promise<void> {
    if (known?.oracle === undefined) return;
    const { callId, status } = known.oracle;
    const ended = kind === "void" ? "voided" : "expired";
    const answer = await this.#apply({ kind, atMs: this.#nowMs, callId, reason: "model test" });
    const expected = status === "open" ? "done" : status === ended ? "already_done" : "conflict";
    assertThat(answer).toMatchObject({ outcome: expected });
    if (status === "open") known.oracle.status = ended;
    this.#count(`${kind} ${expected}`);
  }

  async #endEverything(): Promise<void> {
    for (const known of this.#known) {
      if (known.oracle?.status === "open") await this.#end(this.#known.indexOf(known) % 2 === 0 ? "void" : "expire", known);
    }
    for (const state of (await this.#subject.ledger.scopeStates()).values()) {
      for (const series of state.counters.values()) {
        for (const { reserved } of series.values()) assertThat(reserved, "a quiet ledger holds nothing").toBe(0n);
      }
    }
    assertThat(await this.#subject.ledger.openCalls()).toEqual([]);
  }

  async #compareTotals(): Promise<void> {
    const [expected, actual] = [await this.#model.scopeStates(), await this.#subject.ledger.scopeStates()];
    for (const compiled of this.#compiled) {
      const { limit } = compiled;
      const scopes = this.#oracles().flatMap((call) => scopesUnder(limit, call.scopes, call.model));
      for (const scope of this.#isJudged(limit) ? scopes : []) {
        const key = scopeKeyOf(scope);
        const at = (state: ScopeState | undefined) =>
          state === undefined ? { spent: 0n, reserved: 0n } : totalsOf(state, compiled, this.#nowMs);
        const totals = at(actual.get(key));

        assertThat(totals, `${limit.name} ${key}`).toEqual(at(expected.get(key)));
        this.#compareWithOracle(limit, scope, totals);
      }
    }
  }

  #compareWithOracle(limit: Limit, scope: Record<string, string>, totals: { spent: bigint; reserved: bigint }): void {
    const lowest = totalsUnder(this.#oracles(), { limit, scope, atMs: this.#nowMs, slackMs: 0 });
    if (limit.window.kind !== "rolling" || limit.measure === "concurrency") {
      assertThat(totals, `${limit.name} ${JSON.stringify(scope)} at ${this.#nowMs}`).toEqual(lowest);
    } else {
      const slackMs = (2 * limit.window.lengthMs) / 60;
      const highest = totalsUnder(this.#oracles(), { limit, scope, atMs: this.#nowMs, slackMs });
      assertThat(totals.spent).toBeGreaterThanOrEqual(lowest.spent);
      assertThat(totals.spent).toBeLessThanOrEqual(highest.spent);
      assertThat(totals.reserved).toBeGreaterThanOrEqual(lowest.reserved);
      assertThat(totals.reserved).toBeLessThanOrEqual(highest.reserved);
    }
    this.#count("totals compared with the oracle");
  }

  async #compareViews(): Promise<void> {
    await this.#compareTotals();
    const { ledger } = this.#subject;
    for (const query of [{ limit: 10_000 }, { limit: 3 }, { limit: 5, session: "s0" }, { limit: 5, callId: "call-1" }]) {
      assertThat(await ledger.calls(query)).toEqual(await this.#model.calls(query));
    }
    assertThat(await ledger.alerts({ limit: 1_000 })).toEqual(await this.#model.alerts({ limit: 1_000 }));
    const byId = (calls: Awaited<ReturnType<Ledger["openCalls"]>>) => [...calls].sort((a, b) => (a.callId < b.callId ? -1 : 1));
    assertThat(byId(await ledger.openCalls())).toEqual(byId(await this.#model.openCalls()));
    for (const by of [[], ["agent"], ["model", "user"], ["tag:team", "tag:said", "session"]] as const) {
      for (const [fromMs, toMs] of [
        [0, Infinity],
        [START_MS, START_MS + 3_600_000],
      ] as const) {
        const sorted = async (of: Ledger) =>
          (await of.report({ fromMs, toMs, by })).map((group) => JSON.stringify(group, bigintText)).sort();
        assertThat(await sorted(ledger)).toEqual(await sorted(this.#model));
      }
    }
    await this.#compareReportWithOracle();
  }

  async #compareReportWithOracle(): Promise<void> {
    const [group] = await this.#subject.ledger.report({ fromMs: 0, toMs: Infinity, by: [] });
    const counted = this.#oracles().filter(({ status }) => status === "settled" || status === "expired");
    const cost = counted.reduce((sum, { actual, bound, adjusted }) => sum + (actual?.usd ?? bound.usd) + adjusted, 0n);

    assertThat(group?.costNanoUsd ?? 0n).toBe(cost);
    assertThat(group?.calls ?? 0).toBe(this.#oracles().length);
  }
}

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? `${value}` : value;
}
