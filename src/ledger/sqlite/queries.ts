/**
 * Owns what is read from the ledger for people: lists, reports, states. Each query sees one moment of the file.
 * Does not own how they are shown (reports/, cli/).
 */
import type { Database } from "better-sqlite3";
import { compileLimits, type LimitSet, type ScopeState } from "../../core/decisions/counters.ts";
import type { Limit } from "../../core/limits/limit.ts";
import { callRecordOf, groupKeyOf, reportModelOf } from "../call-record.ts";
import { fromJson } from "../json.ts";
import type { CallRecord, CallsQuery, ReportGroup, ReportQuery } from "../ledger.ts";
import { toNanoUsd, ZERO_USD } from "../../core/money/money.ts";
import { NO_TOKENS, type TokenParts } from "../../core/usage/usage.ts";
import type { Query } from "./messages.ts";
import { CachedBook, NO_LIMITS } from "./cached-book.ts";
import { correctedFromText } from "./counted.ts";
import { prepareReadArchived } from "./statements/archived.ts";
import { prepareReadBatches } from "./statements/batches.ts";
import { isAsked, prepareReadCall, prepareReadCalls, type CallRow } from "./statements/calls.ts";
import { prepareReadConfig } from "./statements/configs.ts";
import { prepareReadScopes } from "./statements/counters.ts";
import { prepareReadAlerts, prepareReadEntry } from "./statements/entries.ts";
import { prepareReadKeys } from "./statements/keys.ts";
import { prepareReadOwners } from "./statements/owners.ts";
import { addGroups, prepareReadReport, prepareReadRolledUp } from "./statements/report.ts";

/** What no entry that is not folded yet can change; a gateway asks for its keys and owners all the time. */
const READ_AS_STORED: ReadonlySet<Query["kind"]> = new Set(["alerts", "batches", "limits", "owners", "keys"]);

/** Everything that can be asked, over one reading connection. */
export class Queries {
  readonly #db: Database;
  /** What the entries say that is not folded yet. */
  readonly #book: CachedBook;
  readonly #statements;

  constructor(db: Database) {
    this.#db = db;
    this.#book = new CachedBook(db);
    this.#statements = {
      calls: prepareReadCalls(db),
      call: prepareReadCall(db),
      entry: prepareReadEntry(db),
      scopes: prepareReadScopes(db),
      config: prepareReadConfig(db),
      alerts: prepareReadAlerts(db),
      owners: prepareReadOwners(db),
      keys: prepareReadKeys(db),
      batches: prepareReadBatches(db),
      report: prepareReadReport(db),
      rolledUp: prepareReadRolledUp(db),
      archived: prepareReadArchived(db),
    };
  }

  answer(query: Query): unknown {
    return this.#db.transaction(() => {
      if (!READ_AS_STORED.has(query.kind)) {
        this.#book.discard();
        this.#book.load();
      }
      return this.#valueOf(query);
    })();
  }

  #valueOf(query: Query): unknown {
    switch (query.kind) {
      case "calls":
        return this.#calls(query.query);
      case "report":
        return this.#report(query.query);
      case "scopeStates":
        return this.#scopeStates();
      case "alerts":
        return this.#statements.alerts(query.limit).flatMap((body) => (body.kind === "alert" ? [body.alert] : []));
      case "limits":
        return this.#limits().limits.map(({ limit }) => limit);
      case "owners":
        return this.#statements.owners();
      case "openCalls":
        return this.#book.openCalls(query.ownerId).map(({ open }) => open);
      case "batches":
        return this.#statements.batches(query.query);
      case "keys":
        return this.#statements.keys();
    }
  }

  /** Calls that run and calls that are over, merged by place. */
  #calls(query: CallsQuery): CallRecord[] {
    const { limit, callId, session, before = Infinity } = query;
    const running = this.#book
      .openCalls()
      .filter(
        ({ position, open }) =>
          position < before &&
          (callId === undefined || open.callId === callId) &&
          (session === undefined || open.scopes.session === session),
      )
      .map(({ position }) => ({ position, endSeq: undefined, correctionSeqs: [] }));
    const unfolded = new Map(this.#book.unfoldedRows().map((row) => [row.callId, row]));
    const stored = this.#statements.calls(query).filter((row) => !unfolded.has(row.callId));
    const over = [...stored, ...[...unfolded.values()].filter((row) => isAsked(row, query))].map(
      ({ position, endSeq, status, counted }) => ({
        position,
        endSeq: status === "denied" ? undefined : endSeq,
        correctionSeqs: correctionSeqsOf(counted, endSeq),
      }),
    );
    return [...running, ...over]
      .sort((a, b) => b.position - a.position)
      .slice(0, limit)
      .map(({ position, endSeq, correctionSeqs }) =>
        callRecordOf(
          position,
          this.#statements.entry(position),
          endSeq === undefined ? undefined : this.#statements.entry(endSeq),
          correctionSeqs.map((seq) => this.#statements.entry(seq)),
        ),
      );
  }

  #report(query: ReportQuery): ReportGroup[] {
    const isIn = (atMs: number): boolean => atMs >= query.fromMs && atMs < query.toMs;
    const running = this.#book
      .openCalls()
      .filter(({ open }) => isIn(open.atMs))
      .map(({ position }) => this.#runningGroup(query, position));
    const unfolded = this.#book.unfoldedRows().filter(({ startedAtMs }) => isIn(startedAtMs));
    const added = unfolded.map((row) => groupOfRow(query.by, row, 1));
    // A late settlement replaces what the file counts the call with.
    const { throughSeq } = this.#statements.archived();
    const replaced = unfolded.map(({ callId }) => this.#statements.call(callId)).filter((row) => row !== undefined);
    const taken = replaced.map((row) => groupOfRow(query.by, row, -1));
    const over = [...this.#statements.report(query, throughSeq), ...this.#statements.rolledUp(query, throughSeq)];
    const groups = addGroups([...over, ...running, ...added, ...taken], query.by);
    return groups.filter(({ calls, denied }) => calls + denied > 0);
  }

  #runningGroup({ by }: ReportQuery, position: number): ReportGroup {
    const { body } = this.#statements.entry(position);
    if (body.kind !== "reserved") throw new TypeError(`entry ${position} is ${body.kind}, not reserved`);
    const key = groupKeyOf(by, body.call, reportModelOf({ decision: body.decision, facts: body.call }));
    return { key, calls: 1, denied: 0, costNanoUsd: ZERO_USD, tokens: NO_TOKENS };
  }

  #scopeStates(): Map<string, ScopeState> {
    const whats = new Set(this.#limits().limits.map(({ what }) => what));
    const isLookedAt = ([, state]: [string, ScopeState]): boolean => [...state.counters.keys()].some((what) => whats.has(what));
    return new Map([...this.#statements.scopes(whats), ...[...this.#book.unfoldedScopes()].filter(isLookedAt)]);
  }

  #limits(): LimitSet {
    const row = this.#statements.config();
    if (row === undefined) return NO_LIMITS;
    const { limits, downgrade } = fromJson(row.rules) as { limits: Limit[]; downgrade: Map<string, string> };
    return compileLimits({ version: row.version, limits, downgrade });
  }
}

/** The entries that corrected a call since it ended. */
function correctionSeqsOf(counted: string | undefined, endSeq: number): number[] {
  const adjustments = correctedFromText(counted)?.adjustments ?? [];
  return adjustments.map(({ seq }) => seq).filter((seq) => seq > endSeq);
}

/** What one call adds to a report, or takes away. */
function groupOfRow(
  by: ReportQuery["by"],
  { scopes, reported, model, status, costNanoUsd, tokens }: CallRow,
  sign: 1 | -1,
): ReportGroup {
  const isDenied = status === "denied";
  return {
    key: groupKeyOf(by, { scopes, attribution: reported }, model),
    calls: isDenied ? 0 : sign,
    denied: isDenied ? sign : 0,
    costNanoUsd: toNanoUsd(BigInt(sign) * (costNanoUsd ?? 0n)),
    tokens: sign === 1 ? tokens : negated(tokens),
  };
}

function negated(tokens: TokenParts): TokenParts {
  const negative = { ...tokens };
  for (const part of Object.keys(negative) as (keyof TokenParts)[]) negative[part] = -negative[part];
  return negative;
}
