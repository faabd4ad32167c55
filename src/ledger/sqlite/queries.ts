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
import { ZERO_USD } from "../../core/money/money.ts";
import { NO_TOKENS } from "../../core/usage/usage.ts";
import type { Query } from "./messages.ts";
import { NO_LIMITS } from "./cached-book.ts";
import { prepareReadCalls } from "./statements/calls.ts";
import { prepareReadConfig } from "./statements/configs.ts";
import { prepareReadScopes } from "./statements/counters.ts";
import { prepareReadAlerts, prepareReadEntry } from "./statements/entries.ts";
import { prepareReadKeys } from "./statements/keys.ts";
import { prepareReadOpenCalls } from "./statements/open-calls.ts";
import { prepareReadOwners } from "./statements/owners.ts";
import { addGroups, prepareReadReport } from "./statements/report.ts";

/** Everything that can be asked, over one reading connection. */
export class Queries {
  readonly #db: Database;
  readonly #statements;

  constructor(db: Database) {
    this.#db = db;
    this.#statements = {
      calls: prepareReadCalls(db),
      entry: prepareReadEntry(db),
      openCalls: prepareReadOpenCalls(db),
      scopes: prepareReadScopes(db),
      config: prepareReadConfig(db),
      alerts: prepareReadAlerts(db),
      owners: prepareReadOwners(db),
      keys: prepareReadKeys(db),
      report: prepareReadReport(db),
    };
  }

  answer(query: Query): unknown {
    return this.#db.transaction(() => this.#valueOf(query))();
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
        return this.#statements.openCalls(query.ownerId).map(({ open }) => open);
      case "keys":
        return this.#statements.keys();
    }
  }

  /** Calls that run and calls that are over, merged by place. */
  #calls(query: CallsQuery): CallRecord[] {
    const { limit, callId, session, before = Infinity } = query;
    const running = this.#statements
      .openCalls()
      .filter(
        ({ position, open }) =>
          position < before &&
          (callId === undefined || open.callId === callId) &&
          (session === undefined || open.scopes.session === session),
      )
      .map(({ position }) => ({ position, endSeq: undefined }));
    const over = this.#statements.calls(query).map(({ position, endSeq, status }) => ({
      position,
      endSeq: status === "denied" ? undefined : endSeq,
    }));
    return [...running, ...over]
      .sort((a, b) => b.position - a.position)
      .slice(0, limit)
      .map(({ position, endSeq }) =>
        callRecordOf(
          position,
          this.#statements.entry(position),
          endSeq === undefined ? undefined : this.#statements.entry(endSeq),
        ),
      );
  }

  #report(query: ReportQuery): ReportGroup[] {
    const running = this.#statements
      .openCalls()
      .filter(({ open }) => open.atMs >= query.fromMs && open.atMs < query.toMs)
      .map(({ position }) => this.#runningGroup(query, position));
    return addGroups([...this.#statements.report(query), ...running], query.by);
  }

  #runningGroup({ by }: ReportQuery, position: number): ReportGroup {
    const { body } = this.#statements.entry(position);
    if (body.kind !== "reserved") throw new TypeError(`entry ${position} is ${body.kind}, not reserved`);
    const key = groupKeyOf(by, body.call, reportModelOf({ decision: body.decision, facts: body.call }));
    return { key, calls: 1, denied: 0, costNanoUsd: ZERO_USD, tokens: NO_TOKENS };
  }

  #scopeStates(): Map<string, ScopeState> {
    return this.#statements.scopes(new Set(this.#limits().limits.map(({ what }) => what)));
  }

  #limits(): LimitSet {
    const row = this.#statements.config();
    if (row === undefined) return NO_LIMITS;
    const { limits, downgrade } = fromJson(row.rules) as { limits: Limit[]; downgrade: Map<string, string> };
    return compileLimits({ version: row.version, limits, downgrade });
  }
}
