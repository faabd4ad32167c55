/**
 * Owns looking up virtual keys while calls come in. Does not own how a key looks (virtual-key.ts) or its storage (ledger/).
 * Invariants: a key is found by the hash of the whole secret, never by a part of it; a revoked key stops working within a second.
 */
import type { Clock } from "../engine/ports.ts";
import type { Ledger, VirtualKey } from "../ledger/ledger.ts";
import type { KeyFinder } from "./server.ts";
import { hashSecret } from "../exchange/system.ts";
import { parseVirtualKey } from "./virtual-key.ts";

/** The list of keys is at most so old. */
const KEYS_AGE_MS_MAX = 1_000;

/** Looks keys up by hash, in a list that is read again every second. */
export function createKeyFinder(ledger: Ledger, clock: Clock): KeyFinder {
  let byHash = new Map<string, VirtualKey>();
  let readAtMs = -Infinity;
  return async (credential) => {
    if (parseVirtualKey(credential) === undefined) {
      return { outcome: "refused", problem: "the virtual key is cut or mistyped (its checksum does not fit)" };
    }
    const nowMs = clock.nowMs();
    if (nowMs - readAtMs >= KEYS_AGE_MS_MAX) {
      byHash = new Map((await ledger.keys()).map((key) => [key.secretHash, key]));
      readAtMs = nowMs;
    }
    const key = byHash.get(hashSecret(credential));
    if (key === undefined) return { outcome: "refused", problem: "the virtual key is not known to this ledger" };
    if (key.revokedAtMs !== undefined) return { outcome: "refused", problem: `the virtual key ${key.keyId} was revoked` };
    if (key.expiresAtMs !== undefined && nowMs >= key.expiresAtMs) {
      return { outcome: "refused", problem: `the virtual key ${key.keyId} has expired` };
    }
    const { keyId, project, agent, allow } = key;
    return { outcome: "found", caller: { keyId, bound: { project, agent, allow } } };
  };
}
