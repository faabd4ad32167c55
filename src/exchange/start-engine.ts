/**
 * Owns putting an engine on a ledger that is open: the rules of a configuration in force, this process among the owners, recovery of
 * what dead ones left. Does not own which ledger that is (the composition roots) or what reaches the engine (gateway/, client/).
 * Invariant: what is put in force last is what stays.
 */
import type { Config } from "../config/config.ts";
import { priceBookOf } from "../config/price-book.ts";
import type { BuiltPriceBook } from "../core/pricing/price-book.ts";
import { keepOwner } from "../engine/owners.ts";
import { createEngine, type Engine } from "../engine/pipeline.ts";
import type { Clock, IdSource, Notifier } from "../engine/ports.ts";
import type { Rules } from "../engine/rules.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { createFingerprints, createIdSource, describeThisProcess, isOwnerDead } from "./system.ts";

export interface StartedEngine {
  engine: Engine;
  ids: IdSource;
  /** The configuration in force. */
  readonly config: () => Config;
  /** Those in force. */
  readonly rules: () => Rules;
  /** The prices in force. */
  readonly book: () => BuiltPriceBook;
  /** Whether the last beat reached the ledger. */
  isLedgerWritable(): boolean;
  /** Puts another configuration in force, in the middle of traffic. */
  reload(config: Config): Promise<void>;
  /** Signs off, so that nobody has to recover what this process left. Must come behind the last {@link Engine.flush}. */
  close(): Promise<void>;
}

export async function startEngine(input: {
  ledger: Ledger;
  config: Config;
  clock: Clock;
  notifier: Notifier;
  /** True: where nobody wrote a limit, those stay that are in force. @defaultValue false: the built-in one is put in force */
  keepsLimits?: boolean;
}): Promise<StartedEngine> {
  const { ledger, clock, notifier } = input;
  const ids = createIdSource(clock);
  const me = describeThisProcess(ids.next("own"), clock.nowMs());
  let { config } = input;
  let book = priceBookOf(config);
  const configure = ({ version, limits, downgrade }: Config, isOnlyIfNone = false): Promise<void> =>
    ledger.configure({ version, limits, downgrade, atMs: clock.nowMs(), isOnlyIfNone });

  await configure(config, input.keepsLimits === true && config.isDefaultLimit);
  const rules = (): Rules => ({
    book,
    downgrade: config.downgrade,
    onUnpricedModel: config.onUnpricedModel,
    onLedgerUnavailable: config.onLedgerUnavailable,
  });
  const engine = createEngine({
    ledger,
    clock,
    ids,
    fingerprints: createFingerprints(),
    notifier,
    rules,
    ownerId: me.ownerId,
  });
  const owner = await keepOwner({
    ledger,
    clock,
    notifier,
    me,
    isDead: (other) => isOwnerDead(other, me),
    freed: (counterIds) => engine.freed(counterIds),
  });

  const putInForce = async (next: Config): Promise<void> => {
    const nextBook = priceBookOf(next);
    await configure(next);
    config = next;
    book = nextBook;
    engine.rulesChanged();
  };
  // One after the other, so that the last one that was asked for is the one that stays.
  let last: Promise<void> = Promise.resolve();
  return {
    engine,
    ids,
    config: () => config,
    rules,
    book: () => book,
    isLedgerWritable: () => owner.isLedgerWritable(),
    async reload(wanted) {
      const before = last.catch(() => undefined);
      last = (async () => {
        await before;
        await putInForce(wanted);
      })();
      await last;
    },
    close: () => owner.close().catch((error: unknown) => notifier.warn("ledger_unavailable", { reason: String(error) })),
  };
}
