/** Owns reading the checked-in list of costs that differ from their labels, and checking a sum written by hand. */
import { readFileSync } from "node:fs";

/** A cost by us that is not the label's: both, the sum by hand (tokens × dollars per million tokens), and why ours is right. */
export interface CostException {
  id: string;
  labelUsd: string;
  oursUsd: string;
  sum: string;
  reason: string;
}

interface Exceptions {
  recordedExchanges: CostException[];
  /** Where `oursUsd` is `unpriced`, the sum is the label's. */
  recordedOpenAiExchanges: CostException[];
  genaiCases: CostException[];
  /** Cases that measure something this project does not do, each with the reason. */
  notOurs: { id: string; reason: string }[];
}

export const costExceptions = JSON.parse(readFileSync(new URL("cost-exceptions.json", import.meta.url), "utf8")) as Exceptions;

/** Adds up "1128*2 + 55096*3.75", tokens times dollars per million tokens, in nano-dollars, exactly. */
export function addUpNanoUsd(sum: string): bigint {
  const products = sum.split(" + ").map((product) => {
    const [tokens = "", usdPerMTok = ""] = product.split("*");
    const [whole = "", fraction = ""] = usdPerMTok.split(".");
    return BigInt(tokens) * BigInt(whole + fraction.padEnd(3, "0"));
  });
  return products.reduce((total, product) => total + product, 0n);
}
