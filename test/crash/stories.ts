/** What the processes do that are killed at every one of their changes (dying.ts), in one thread, so that a fork can do it. */
import { copyFileSync } from "node:fs";
import { limitOf, ownerOf, rulesOf } from "../contract/samples.ts";
import { CALLER_LIMITS, say, stepsOf } from "./caller.ts";
import { DirectLedger } from "./direct-ledger.ts";
import { removeLedger } from "./ledger-files.ts";

/** Calls in one batch, so that operations of several stand in one transaction. */
const TOGETHER = 3;
/** Something a process does with a ledger file, in one go. */
export interface Story {
  name: string;
  /** What is there before it begins. */
  prepare: (path: string, told: Teller) => void;
  live: (path: string, told: Teller) => void;
}

function makeCalls({ ledger, told, name, calls }: { ledger: DirectLedger; told: Teller; name: string; calls: number }): void {
  // Whose reservations are to be recovered has to be known before it reserves.
  told.attempt(() => ledger.run([{ kind: "beat", owner: ownerOf(name) }]));
  for (let first = 1; first <= calls; first += TOGETHER) {
    const together = Array.from({ length: Math.min(TOGETHER, calls - first + 1) }, (_nothing, next) =>
      stepsOf(name, first + next),
    );
    for (let round = 0; together.some((steps) => round < steps.length); round += 1) {
      const steps = together.flatMap((all) => all[round] ?? []);
      const lines = steps.map(({ what, id, cost }) => ({ what, id, cost: String(cost) }));
      for (const line of lines) say(told.file, { kind: "asks", ...line });
      told.attempt(() => ledger.applyAll(steps.map(({ operation }) => operation)));
      for (const line of lines) say(told.file, { kind: "did", ...line });
    }
  }
}

/** Starts on a file as a gateway does. */
function start(path: string, { attempt }: Teller): DirectLedger {
  const ledger = attempt(() => new DirectLedger(path));
  attempt(() => ledger.run([{ kind: "configure", rules: rulesOf(CALLER_LIMITS) }]));
  return ledger;
}

/** A ledger as a process leaves it that is killed: entries that are not folded, in the log beside the file. */
function leaveOpen(path: string, told: Teller): void {
  const working = `${path}-before`;
  const ledger = start(working, told);
  makeCalls({ ledger, told, name: "before", calls: 8 });
  for (const suffix of ["", "-wal", "-witness"]) copyFileSync(working + suffix, path + suffix);
  told.attempt(() => ledger.end());
  removeLedger(working);
}

function leaveClosed(path: string, told: Teller): void {
  const ledger = start(path, told);
  makeCalls({ ledger, told, name: "before", calls: 8 });
  told.attempt(() => ledger.end());
}

/** How a process tells what it does, and what it does about a failure. */
export interface Teller {
  /** The file that lines are said to. */
  file: number;
  /** Does something that may fail. */
  attempt: <T>(work: () => T) => T;
}

/** Each is lived to every one of its changes. */
export const STORIES: readonly Story[] = [
  {
    name: "making a ledger",
    prepare: () => undefined,
    live(path, told) {
      const ledger = start(path, told);
      makeCalls({ ledger, told, name: "new", calls: 6 });
      told.attempt(() => ledger.end());
    },
  },
  {
    name: "going on after a kill",
    prepare: leaveOpen,
    live(path, told) {
      const ledger = start(path, told);
      makeCalls({ ledger, told, name: "next", calls: 5 });
      told.attempt(() => ledger.end());
    },
  },
  {
    name: "going on after an end",
    prepare: leaveClosed,
    live(path, told) {
      const ledger = start(path, told);
      makeCalls({ ledger, told, name: "later", calls: 2 });
      told.attempt(() => ledger.fold());
      makeCalls({ ledger, told, name: "folded", calls: 2 });
      told.attempt(() => ledger.end());
    },
  },
  {
    name: "putting new limits in force",
    prepare: leaveOpen,
    live(path, told) {
      const ledger = start(path, told);
      makeCalls({ ledger, told, name: "limits", calls: 1 });
      const added = limitOf({ name: "requests", per: ["agent"], measure: "requests", amount: 10n ** 9n });
      const rules = rulesOf([...CALLER_LIMITS, added], undefined, "v2");
      told.attempt(() => ledger.run([{ kind: "configure", rules }]));
      makeCalls({ ledger, told, name: "more", calls: 1 });
      told.attempt(() => ledger.end());
    },
  },
];

/** What a process does whose story has no number: one of many that follow each other on a file, or only the start and the end. */
export function liveUnnumbered(name: string, path: string, told: Teller): void {
  if (name === ONLY_OPENED) return new DirectLedger(path).end();
  const ledger = start(path, told);
  makeCalls({ ledger, told, name, calls: 6 });
  told.attempt(() => ledger.end());
}

/** Opening brings a file to this version's schema. */
export const ONLY_OPENED = "only opened";
