/**
 * Owns how what an expired call was counted with is kept, so that a late settlement replaces exactly that.
 */
import type { Charge } from "../../core/decisions/counters.ts";
import type { OpenCall } from "../../core/decisions/operations.ts";
import { fromJson, toJson } from "../json.ts";

/** What a late settlement must know of a call. */
interface Counted {
  charges: readonly Charge[];
  spent: readonly bigint[];
  usdBound: OpenCall["usdBound"];
  inputTokensBound: number;
  outputTokensBound: number;
}

/** The column `counted` of a call that expired. */
export function countedToText(open: OpenCall, spent: readonly bigint[]): string {
  const { charges, usdBound, inputTokensBound, outputTokensBound } = open;
  return toJson({ charges, spent, usdBound: usdBound ?? null, inputTokensBound, outputTokensBound });
}

/**
 * Reads the column. A call that cannot be settled late any more has none: what it was reserved with says where it freed something.
 */
export function countedFromText(text: string | undefined, open: OpenCall): Counted {
  if (text !== undefined) {
    const counted = fromJson(text) as Omit<Counted, "usdBound"> & { usdBound: Counted["usdBound"] | null };
    return { ...counted, usdBound: counted.usdBound ?? undefined };
  }
  const { charges, usdBound, inputTokensBound, outputTokensBound } = open;
  return { charges, spent: [], usdBound, inputTokensBound, outputTokensBound };
}
