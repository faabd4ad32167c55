/**
 * Owns running a decision again from what the ledger stored of it. Does not own the rules (core/decisions).
 * Invariant: the rules are run, never imitated; what they answer now is compared with what happened then.
 */
import { admit, type Admission } from "../core/decisions/admit.ts";
import type { CallRecord } from "../ledger/ledger.ts";

export type DecidedAgain =
  | { outcome: "same"; admission: Admission }
  | { outcome: "different"; admission: Admission; before: string; now: string }
  /** There is nothing to decide again: it came before or after the step that admits, or the ledger could not be asked. */
  | { outcome: "not_stored" };

/** Decides a call again. */
export function decideAgain({ status, decision, deniedWith }: CallRecord): DecidedAgain {
  if (decision === undefined || decision.isForced === true) return { outcome: "not_stored" };
  const admission = admit({ ...decision.admit, heldBack: new Set(decision.admit.heldBack) });
  const isGraced = decision.marks.includes("graced");
  const fitted = decision.marks.includes("fitted") ? { maxTokens: decision.outputTokensBound } : {};
  const before =
    status === "denied"
      ? nameDenial(deniedWith?.code, deniedWith?.view?.limit)
      : nameAdmission({ outcome: "admitted", isGraced, ...fitted });
  const now = nameAdmission(admission);
  return before === now ? { outcome: "same", admission } : { outcome: "different", admission, before, now };
}

function nameAdmission(admission: Admission): string {
  switch (admission.outcome) {
    case "admitted":
      return `admitted${admission.isGraced ? " by grace" : ""}${admission.maxTokens === undefined ? "" : ` with max_tokens ${admission.maxTokens}`}`;
    case "wait":
      return "told to wait";
    case "throttled":
      return "throttled";
    case "denied":
      return nameDenial(admission.by.code, admission.by.view?.limit);
  }
}

function nameDenial(code: string | undefined, limit: string | undefined): string {
  return `denied, ${code ?? "without a reason"}${limit === undefined ? "" : `, by ${limit}`}`;
}
