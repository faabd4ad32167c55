/** What a configuration says about calls, as the engine needs it. */
import type { BuiltPriceBook } from "../core/pricing/price-book.ts";

/** What the configuration says about calls, as it is in force now. */
export interface Rules {
  book: BuiltPriceBook;
  downgrade: ReadonlyMap<string, string>;
  onUnpricedModel: "deny" | "dearest";
  /** `allow`: calls go through while the ledger cannot be written, and are recorded when it can be again. */
  onLedgerUnavailable: "deny" | "allow";
}
