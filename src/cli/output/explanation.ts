/**
 * Owns how one call is explained to a person: who, what, why it was decided so, and how its cost adds up.
 * Invariant: every figure is exact, so that each sum can be done by hand.
 */
import { boundWith, leastBound, type LimitView } from "../../core/decisions/admit.ts";
import type { Extension } from "../../core/decisions/call.ts";
import type { StoredDecision } from "../../core/decisions/operations.ts";
import type { CallRecord } from "../../ledger/ledger.ts";
import { formatMeasured } from "../../core/limits/describe.ts";
import { formatUsd } from "../../core/money/money.ts";
import { sumCostParts } from "../../core/pricing/rate.ts";
import { flagsOf, isEstimated, modelOf } from "../../reports/calls-report.ts";
import type { DecidedAgain } from "../../reports/decide-again.ts";
import { costTable } from "./cost-table.ts";
import { formatCount, formatDollars, formatExactMoney, formatLengthShort, formatSignedMoney } from "./figures.ts";
import { formatLocal } from "./instants.ts";
import type { Screen } from "./screen.ts";
import { renderTable } from "./table.ts";
import { clean, pad, wrap } from "./text.ts";

interface Place {
  screen: Screen;
  timeZone: string;
}

/** Explains a call, in lines. */
export function explainCall(record: CallRecord, again: DecidedAgain, place: Place): string[] {
  const { bold } = place.screen.style;
  return [
    `${bold(`Call ${clean(record.callId)}`)} (number ${record.position})`,
    ...factLines(record, place),
    "",
    bold("Decision"),
    ...decisionLines(record, again, place),
    "",
    bold("Cost"),
    ...costLines(record, place),
  ];
}

function factLines(record: CallRecord, { screen, timeZone }: Place): string[] {
  const { facts, result, startedAtMs, endedAtMs } = record;
  const { scopes, attribution } = facts;
  const tags = Object.entries(attribution.tags).map(([name, value]) => `${name}=${value}`);
  const ended =
    record.status === "denied"
      ? "refused at once"
      : endedAtMs === undefined
        ? "still running"
        : `ended ${lengthText(endedAtMs - startedAtMs)} later`;
  const asked = facts.requestedModel === modelOf(record) ? "" : ` (asked for: ${facts.requestedModel})`;
  const rows: [string, string][] = [
    ["status", [record.status, ...flagsOf(record)].join(", ")],
    ["time", `${formatLocal(startedAtMs, timeZone, "millisecond")} ${timeZone}, ${ended}`],
    ["model", `${modelOf(record)}${asked}, ${facts.provider}${facts.isStream ? ", streamed" : ""}`],
    ["who", `project ${scopes.project}, agent ${scopes.agent}, key ${scopes.key}, user ${attribution.user}`],
    [
      "session",
      `${scopes.session}${scopes.parentSessions.length === 0 ? "" : ` (counts for ${scopes.parentSessions.join(", ")})`}, task ${scopes.task}`,
    ],
    ...(tags.length === 0 ? [] : ([["tags", tags.join(", ")]] as [string, string][])),
    ["attempt", `${facts.attempt + 1}${facts.attempt === 0 ? "" : " (a retry of the client)"}`],
    ...(result?.providerRequestId === undefined
      ? []
      : ([["provider", `request ${result.providerRequestId}, status ${result.status ?? "unknown"}`]] as [string, string][])),
    ...(result?.error === undefined ? [] : ([["error", `${result.error.type}: ${result.error.message}`]] as [string, string][])),
  ];
  return rows.flatMap(([name, text]) => {
    const [first = "", ...rest] = wrap(clean(text), screen.width - 12);
    return [`  ${screen.style.dim(pad(name, 8, "left"))}  ${first}`, ...rest.map((line) => `            ${line}`)];
  });
}

function lengthText(lengthMs: number): string {
  return lengthMs < 10_000 ? `${lengthMs} ms` : formatLengthShort(lengthMs);
}

function decisionLines({ status, decision, deniedWith, facts }: CallRecord, again: DecidedAgain, place: Place): string[] {
  const { screen } = place;
  const { red, green } = screen.style;
  const outcome =
    status === "denied"
      ? red(`refused: ${deniedWith?.code ?? "unknown"}`)
      : green(["allowed", ...(decision?.marks ?? [])].join(", "));
  if (decision === undefined) {
    const view = deniedWith?.view;
    return [
      `  ${outcome}, outside the step that admits: nothing of it to decide again`,
      ...(view === undefined ? [] : viewLines(view, place)),
    ];
  }
  const { inputTokensBound, extension, outputTokensBound, usdBound, maxTokens } = decision;
  const most = usdBound === undefined ? "no price is known" : `at most ${formatExactMoney(usdBound)}`;
  const bound = `proven bound: ${formatCount(inputTokensBound)} input + ${formatCount(outputTokensBound)} output tokens on ${clean(decision.model)}, ${most}`;
  const instead = decision.model === facts.requestedModel ? "" : `, instead of ${clean(facts.requestedModel)}`;
  return [
    `  ${outcome}${instead}, under configuration ${clean(decision.limitsVersion)}`,
    ...indented(`${bound}${maxTokens === undefined ? "" : ` (max_tokens ${formatCount(maxTokens)})`}`, screen),
    ...(extension === undefined ? [] : indented(extensionText(extension), screen)),
    ...(decision.countedTokens === undefined ? [] : indented(countText(decision.countedTokens), screen)),
    ...(decision.skippedReason === undefined
      ? []
      : indented(`no cheaper model was taken: ${clean(decision.skippedReason)}`, screen)),
    ...(decision.admit.views.length === 0
      ? ["  no limit looks at it"]
      : decision.admit.views.flatMap((view) => viewLines({ ...view, bound: askedOf(view, decision, status) }, place))),
    ...decision.admit.paces.flatMap(({ limit, intervalMs }) =>
      indented(`slowed by ${clean(limit)}: one start every ${lengthText(intervalMs)}`, screen),
    ),
    ...againLines(again, screen),
  ];
}

function extensionText({ inputTokens, outputTokens, answerTokens = 0, newTokens }: Extension): string {
  const read = `${formatCount(inputTokens)} input`;
  const reported =
    outputTokens >= answerTokens
      ? `${read} + ${formatCount(outputTokens)} output tokens reported of that one`
      : `${read} tokens reported of that one, at most ${formatCount(answerTokens)} of its answer as it is sent back`;
  return `its input is bounded by the call it extends: ${reported}, and at most ${formatCount(newTokens)} new`;
}

function countText(countedTokens: number): string {
  return `its input is bounded by the provider's own count of it: ${formatCount(countedTokens)} tokens, and a margin above`;
}

/** What the call asked of a limit at last: made smaller, if it was; refused, the least it would have been given. */
function askedOf(view: LimitView, { admit: { fit }, marks, outputTokensBound }: StoredDecision, status: CallRecord["status"]) {
  if (status === "denied") return leastBound(view, fit);
  return boundWith(view, fit, marks.includes("fitted") ? outputTokensBound : undefined);
}

/** A limit's sum, written out: what was there, what was asked, and where it had to stay. */
function viewLines(view: LimitView, { screen, timeZone }: Place): string[] {
  const { measure, spent, reserved, bound, ceiling, graceCeiling } = view;
  const amount = (value: bigint): string => formatMeasured(measure, value);
  const scope = Object.entries(view.scope).map(([name, value]) => `${name} ${value}`);
  const who = `${clean(view.limit)} (${scope.length === 0 ? "all calls" : clean(scope.join(", "))})`;
  const asked = bound === undefined ? "no bound" : amount(bound);
  const total = spent + reserved + (bound ?? 0n);
  const sum = `${amount(spent)} spent + ${amount(reserved)} reserved + ${asked} asked = ${amount(total)}`;
  if (ceiling === undefined) return indented(`${who}: ${sum}; never refuses`, screen);
  const most = graceCeiling ?? ceiling;
  const isFitting = bound !== undefined && total <= most;
  const against = `${isFitting ? "within" : "above"} ${amount(most)}${graceCeiling === undefined ? "" : ` (its grace; the limit is ${amount(ceiling)})`}`;
  const clears = isFitting
    ? ""
    : Number.isFinite(view.clearsAtMs)
      ? `; clears ${formatLocal(view.clearsAtMs, timeZone)} ${timeZone}`
      : "; never clears by itself";
  const paint = isFitting ? screen.style.green : screen.style.red;
  return indented(`${who}: ${sum}, ${against}${clears}`, screen).map((line) => paint(line));
}

function againLines(again: DecidedAgain, screen: Screen): string[] {
  switch (again.outcome) {
    case "same":
      return [`  ${screen.style.green("decided again from what was stored: the same")}`];
    case "different":
      return indented(`decided again from what was stored: ${again.now}, and not ${again.before}`, screen).map((line) =>
        screen.style.red(line),
      );
    case "not_stored":
      return [];
  }
}

/** What the ending said, then every correction of it, and what they come to. */
function costLines(record: CallRecord, place: Place): string[] {
  const { adjustments, adjustedNanoUsd, costNanoUsd } = record;
  if (adjustments.length === 0) return endedCostLines(record, costNanoUsd, place);
  const { screen, timeZone } = place;
  const before = endedCostOf(record);
  const changes = adjustments.map(
    ({ deltaNanoUsd }) => ` ${deltaNanoUsd < 0n ? "-" : "+"} ${formatExactMoney(abs(deltaNanoUsd))}`,
  );
  const sum = `${formatExactMoney(before ?? 0n)}${changes.join("")} = ${formatExactMoney((before ?? 0n) + adjustedNanoUsd)}`;
  return [
    ...endedCostLines(record, before, place),
    ...adjustments.flatMap(({ adjustmentId, atMs, deltaNanoUsd, reason, by }) => {
      const when = `${formatLocal(atMs, timeZone)} ${timeZone}`;
      const text = `corrected by ${formatSignedMoney(deltaNanoUsd)}, ${when}, by ${by} (${adjustmentId}): ${reason}`;
      return indented(clean(text), screen);
    }),
    ...indented(`counted at ${sum}`, screen),
  ];
}

/** `undefined`: no price was known for it, and nothing had been set aside. */
function endedCostOf({ result, reservedNanoUsd, costNanoUsd, adjustedNanoUsd }: CallRecord): bigint | undefined {
  const isKnown = result?.costNanoUsd !== undefined || reservedNanoUsd !== undefined;
  return isKnown && costNanoUsd !== undefined ? costNanoUsd - adjustedNanoUsd : undefined;
}

function abs(amount: bigint): bigint {
  return amount < 0n ? -amount : amount;
}

function endedCostLines(record: CallRecord, costNanoUsd: bigint | undefined, { screen }: Place): string[] {
  const { status, result, reservedNanoUsd, overrunNanoUsd, isLate } = record;
  const reserved = reservedNanoUsd === undefined ? "" : `, ${formatExactMoney(reservedNanoUsd)} had been set aside`;
  if (status === "denied") return ["  nothing: it was refused, and nothing was sent to the provider"];
  if (status === "reserved") return [`  not known yet: it is running${reserved}`];
  if (status === "voided") return [`  nothing: it was never sent to the provider${reserved}`];
  if (costNanoUsd === undefined) return ["  not known"];
  if (status === "expired")
    return indented(
      `${formatExactMoney(costNanoUsd)}: its process ended without settling it, so it is counted at its bound`,
      screen,
    );
  const parts = result?.costParts ?? [];
  const exact = sumCostParts(parts);
  const table =
    parts.length === 0
      ? []
      : renderTable(costTable(parts, costNanoUsd), screen).map((line) => (screen.isTerminal ? line : `  ${line}`));
  const sum =
    parts.length === 0
      ? `${formatExactMoney(costNanoUsd)}, without parts`
      : `${parts.map((part) => formatDollars(part.costUsd)).join(" + ")} = ${formatDollars(exact)}`;
  const isSum = parts.length > 0 && isRoundedUp(exact, costNanoUsd);
  const rounded = isSum && exact !== formatUsd(costNanoUsd) ? `, rounded up once to $${formatUsd(costNanoUsd)}` : "";
  const other = parts.length > 0 && !isSum ? `; counted at ${formatExactMoney(costNanoUsd)}` : "";
  return [
    ...table,
    ...indented(`${sum}${rounded}${other}${reserved}`, screen),
    ...(isEstimated(record)
      ? indented("estimated: the provider's final usage was not read, or something in it has no price", screen)
      : []),
    ...(isLate ? indented("settled late: until then it was counted at its bound, in the same windows", screen) : []),
    ...(overrunNanoUsd > 0n
      ? indented(`${formatExactMoney(overrunNanoUsd)} more than had been set aside: an overrun`, screen)
      : []),
    ...(result === undefined || result.priceIds.length === 0
      ? []
      : indented(`price rows: ${result.priceIds.map((id) => clean(id)).join(", ")}`, screen)),
  ];
}

/** True if the cost is the exact sum, rounded up to a nano-dollar. */
function isRoundedUp(exact: string, costNanoUsd: bigint): boolean {
  const [whole = "0", fraction = ""] = exact.split(".");
  const nano = BigInt(whole) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
  return costNanoUsd === nano + (/[1-9]/.test(fraction.slice(9)) ? 1n : 0n);
}

function indented(text: string, screen: Screen): string[] {
  return wrap(text, screen.width - 2, "  ").map((line) => `  ${line}`);
}
