/**
 * Owns what an operation must look like before any store carries it out: one that is wrong by itself is refused alone,
 * before it can touch anything or spoil the batch it would be part of.
 * Does not own what it does (core/decisions).
 */
import type { Candidate } from "../core/decisions/call.ts";
import type { Operation, ReserveOperation } from "../core/decisions/operations.ts";

/** Above this no amount of money and no count is believed: it is 4.6 thousand million dollars, and sums must stay exact. */
const AMOUNT_MAX = 2n ** 62n;
const CALL_ID_LENGTH_MAX = 200;
const REASON_LENGTH_MAX = 1_000;

/** @throws RangeError naming the operation, the field, the value and what is allowed. */
export function assertOperation(operation: Operation): void {
  const callId = operation.kind === "reserve" || operation.kind === "refuse" ? operation.call.callId : operation.callId;
  const fail = (field: string, value: unknown, allowed: string): never => {
    throw new RangeError(`${operation.kind} of call "${callId}": ${field} is ${String(value)}; allowed: ${allowed}`);
  };
  const count = (field: string, value: number): void => {
    if (!Number.isSafeInteger(value) || value < 0) fail(field, value, "a whole number, at least 0");
  };
  const amount = (field: string, value: bigint | undefined): void => {
    if (value !== undefined && (value < 0n || value > AMOUNT_MAX)) fail(field, value, `0…${AMOUNT_MAX}`);
  };
  const text = (field: string, value: string, lengthMax: number): void => {
    if (value.length === 0 || value.length > lengthMax) fail(field, value, `1…${lengthMax} characters`);
  };
  text("callId", callId, CALL_ID_LENGTH_MAX);
  count("atMs", operation.atMs);
  switch (operation.kind) {
    case "reserve":
      if (operation.candidates.length === 0) fail("candidates", "empty", "the model asked for and those to fall back to");
      for (const { inputTokensBound, outputTokensBound, usdBound } of candidatesOf(operation)) {
        count("inputTokensBound", inputTokensBound);
        count("outputTokensBound", outputTokensBound);
        amount("usdBound", usdBound);
      }
      return;
    case "renew":
      count("inputTokensBound", operation.inputTokensBound);
      count("outputTokensBound", operation.outputTokensBound);
      return amount("usdBound", operation.usdBound);
    case "settle":
      for (const [part, tokens] of Object.entries(operation.result.tokens)) count(`tokens.${part}`, tokens);
      return amount("costNanoUsd", operation.result.costNanoUsd);
    case "adjust": {
      const { adjustmentId, reason, by, deltaNanoUsd } = operation;
      text("adjustmentId", adjustmentId, CALL_ID_LENGTH_MAX);
      text("reason", reason, REASON_LENGTH_MAX);
      text("by", by, CALL_ID_LENGTH_MAX);
      if (deltaNanoUsd === 0n || deltaNanoUsd > AMOUNT_MAX || deltaNanoUsd < -AMOUNT_MAX) {
        fail("deltaNanoUsd", deltaNanoUsd, `-${AMOUNT_MAX}…${AMOUNT_MAX}, but not 0`);
      }
      return;
    }
    case "void":
    case "expire":
    case "refuse":
      return;
  }
}

/** Those it may run on, and what the rest of its batch needs. */
function candidatesOf({ candidates, batch }: ReserveOperation): readonly Candidate[] {
  return batch?.isFirst === true ? [...candidates, ...batch.rest.map(({ candidate }) => candidate)] : candidates;
}
