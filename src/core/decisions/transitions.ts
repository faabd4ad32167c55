/**
 * Owns which rule carries out which operation: the one door through which counters change.
 * Does not own loading and storing (ledger/): a store hands in a `Book` and writes what comes out.
 * Invariant: every change of a counter is a charge of an entry, so the sum of all entries is the counters.
 */
import type { Operation, OperationResult } from "./operations.ts";

import type { Book } from "./book.ts";
import { adjust } from "./adjust.ts";
import { renew, settle, voidCall, expire, refuse } from "./endings.ts";
import { reserve } from "./reserve.ts";

/** Carries out one operation. */
export function applyOperation(book: Book, operation: Operation): OperationResult {
  switch (operation.kind) {
    case "reserve":
      return reserve(book, operation);
    case "renew":
      return renew(book, operation);
    case "settle":
      return settle(book, operation);
    case "void":
      return voidCall(book, operation);
    case "expire":
      return expire(book, operation);
    case "adjust":
      return adjust(book, operation);
    case "refuse":
      return refuse(book, operation);
  }
}
