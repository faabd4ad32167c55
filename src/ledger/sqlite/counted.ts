/**
 * Owns how what an expired call was counted with is kept, so that a late settlement replaces exactly that; and what corrections need
 * to know of those before them.
 */
import type { Charge } from "../../core/decisions/counters.ts";
import type { Adjustment, EndedCall, OpenCall } from "../../core/decisions/operations.ts";
import { fromJson, toJson } from "../json.ts";

/** What a late settlement must know of a call. */
interface Counted {
  charges: readonly Charge[];
  spent: readonly bigint[];
  usdBound: OpenCall["usdBound"];
  inputTokensBound: number;
  outputTokensBound: number;
}

/** A correction and the number of its entry. */
export interface PlacedAdjustment extends Adjustment {
  seq: number;
}

/** What is kept of a call that was corrected: the row's own cost is the corrected one. */
export interface Corrected {
  /** As the ending said; `null`: not known. */
  endedNanoUsd: EndedCall["costNanoUsd"] | null;
  adjustments: readonly PlacedAdjustment[];
}

/** The column `counted` of a call that expired or was corrected. */
export function countedToText({ status, costNanoUsd, open, spent }: EndedCall, adjustments: readonly PlacedAdjustment[]): string {
  const { charges, usdBound, inputTokensBound, outputTokensBound } = open;
  const counts = status === "expired" ? { charges, spent } : { charges: [], spent: [] };
  const corrected: Corrected = { endedNanoUsd: costNanoUsd ?? null, adjustments };
  return toJson({
    ...counts,
    usdBound: usdBound ?? null,
    inputTokensBound,
    outputTokensBound,
    ...(adjustments.length === 0 ? {} : { corrected }),
  });
}

/** What the column says of corrections; `undefined`: there are none. */
export function correctedFromText(text: string | undefined): Corrected | undefined {
  return text === undefined ? undefined : (fromJson(text) as { corrected?: Corrected }).corrected;
}

/**
 * Reads the column. A call that cannot be settled late any more has none: what it was reserved with says where it freed something.
 */
export function countedFromText(text: string | undefined, open: OpenCall): Counted {
  if (text !== undefined) {
    const counted = fromJson(text) as Omit<Counted, "usdBound"> & { usdBound: Counted["usdBound"] | null };
    const { spent, inputTokensBound, outputTokensBound } = counted;
    const charges = counted.charges.length === 0 ? open.charges : counted.charges;
    return { charges, spent, usdBound: counted.usdBound ?? undefined, inputTokensBound, outputTokensBound };
  }
  const { charges, usdBound, inputTokensBound, outputTokensBound } = open;
  return { charges, spent: [], usdBound, inputTokensBound, outputTokensBound };
}
