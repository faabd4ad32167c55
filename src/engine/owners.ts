/**
 * Owns that reservations of processes that are gone come to an end: registering, beating, recovering.
 * Does not own how a process is looked up (exchange/system.ts) or what expiring does (core/decisions).
 * Invariants: a reservation is recovered only when its owner is proven dead, or silent for a minute where that cannot be seen; it is
 * counted at its bound, so recorded + reserved is never below what the provider bills.
 */
import type { Ledger, Owner } from "../ledger/ledger.ts";
import type { Clock, Notifier } from "./ports.ts";
import { isLedgerUnavailable } from "./refusing.ts";

export const BEAT_MS = 5_000;
/**
 * Silent for so long, an owner that cannot be looked up is taken for dead. It is this process that listened so long, from beat to beat:
 * a difference of two wall clocks would kill whoever lives on a machine whose clock is behind, or on one where it is set.
 */
export const SILENT_MS_MAX = 60_000;

export interface OwnerKeeper {
  /** Whether the last beat reached the ledger. */
  isLedgerWritable(): boolean;
  /** Stops beating and signs off. A process that could not end all its calls stays known, so that the next one recovers them. */
  close(): Promise<void>;
}

/**
 * Registers this process, recovers what dead ones left, and goes on doing both every five seconds.
 *
 * @param isDead true: proven dead; false: proven alive; `undefined`: cannot be seen from here.
 */
export async function keepOwner(input: {
  ledger: Ledger;
  clock: Clock;
  notifier: Notifier;
  me: Owner;
  isDead: (owner: Owner) => boolean | undefined;
  freed: (counterIds: readonly string[]) => void;
}): Promise<OwnerKeeper> {
  const { ledger, clock, notifier, me } = input;
  let isWritable = true;
  let isClosed = false;
  let cancelTimer = (): void => undefined;
  /** What was last heard of others, and how many beats of this process ago. */
  let heard: ReadonlyMap<string, { beatAtMs: number; beatsAgo: number }> = new Map();

  function listen(others: readonly Owner[]): void {
    heard = new Map(
      others.map(({ ownerId, beatAtMs }) => {
        const last = heard.get(ownerId);
        return [ownerId, { beatAtMs, beatsAgo: last?.beatAtMs === beatAtMs ? last.beatsAgo + 1 : 0 }];
      }),
    );
  }

  function isSilent({ ownerId }: Owner): boolean {
    return (heard.get(ownerId)?.beatsAgo ?? 0) * BEAT_MS > SILENT_MS_MAX;
  }

  /**
   * What nobody known holds: its process was taken for dead while it stood still, reserved after it had gone on, and ended before it was
   * known again.
   */
  async function recoverOrphans(): Promise<void> {
    // In this order: whoever reserves is known before, also a process that begins at this moment.
    const calls = await ledger.openCalls();
    const owners = (await ledger.owners()).map(({ ownerId }) => ownerId);
    // The lines of a batch run at the provider, whatever becomes of the process that handed it in.
    const batches = (await ledger.batches()).map(({ submissionId }) => submissionId);
    const known = new Set([...owners, ...batches]);
    const orphans = calls.filter(({ ownerId }) => !known.has(ownerId));
    for (const { callId } of orphans) await expire(callId, "its process is not known any more");
    if (orphans.length > 0) notifier.warn("recovered", { calls: orphans.length });
  }

  async function expire(callId: string, reason: string): Promise<void> {
    const [result] = await ledger.apply([{ kind: "expire", atMs: clock.nowMs(), callId, reason }]);
    for (const alert of result?.alerts ?? []) notifier.alert(alert);
    input.freed(result?.freedCounterIds ?? []);
  }

  async function beat(): Promise<void> {
    await ledger.beat({ ...me, beatAtMs: clock.nowMs() });
    const others = (await ledger.owners()).filter(({ ownerId }) => ownerId !== me.ownerId);
    listen(others);
    const dead = others.filter((owner) => input.isDead(owner) ?? isSilent(owner));
    for (const owner of dead) await recover(owner);
  }

  async function recover(owner: Owner): Promise<void> {
    const calls = await ledger.openCalls(owner.ownerId);
    for (const { callId } of calls) await expire(callId, `its process (pid ${owner.pid}) ended without settling it`);
    await ledger.removeOwner(owner.ownerId);
    if (calls.length > 0) notifier.warn("recovered", { ownerId: owner.ownerId, pid: owner.pid, calls: calls.length });
  }

  async function beatAgain(): Promise<void> {
    try {
      await beat();
      isWritable = true;
    } catch (error) {
      // A failure that is no outage is told too; the next beat tries again, for a gateway must not end by it.
      const reason = error instanceof Error ? error.message : "unknown";
      if (isWritable) notifier.warn(isLedgerUnavailable(error) ? "ledger_unavailable" : "internal_error", { reason });
      isWritable = false;
    }
    if (!isClosed) cancelTimer = clock.after(BEAT_MS, () => void beatAgain(), true);
  }

  await beat();
  await recoverOrphans();
  cancelTimer = clock.after(BEAT_MS, () => void beatAgain(), true);
  return {
    isLedgerWritable: () => isWritable,
    async close() {
      isClosed = true;
      cancelTimer();
      const left = await ledger.openCalls(me.ownerId);
      if (left.length === 0) await ledger.removeOwner(me.ownerId);
      else notifier.warn("left_open", { ownerId: me.ownerId, calls: left.length });
    },
  };
}
