/**
 * A program that forks itself under the shim, thousands of times: each child lives a story on a ledger file and is killed at the call
 * that was asked for. It is asked on its standard input, a line each, and answers there is what became of the child.
 */
import { openSync, closeSync, readSync, writeSync } from "node:fs";
import { say } from "./caller.ts";
import { dieAtOnce, endAtOnce, failCalls, forkToDie, stopFailing, type ERRORS } from "./shim.ts";
import { liveUnnumbered, STORIES, type Teller } from "./stories.ts";

/** What is asked for. `story`: the number of one, or a name without one (stories.ts). */
export interface Death {
  story: number | string;
  path: string;
  /** The file that what it says is added to. */
  told: string;
  /** Killed at its change of this number; it ends by itself if it has fewer. */
  at: number;
  /** It is not killed there: the call fails, and the process is killed when it is told so, or tries what failed again and goes on. */
  fails?: { error: keyof typeof ERRORS; kinds: string; next: "is killed" | "tries again" };
}

/** A ledger that can be written again takes what it is asked. */
const ATTEMPTS_MAX = 4;

export type DeathAnswer = "killed" | "ended";

function attemptOf({ fails }: Death): Teller["attempt"] {
  return (work) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return work();
      } catch (error) {
        if (fails?.next === "is killed") dieAtOnce();
        if (fails === undefined || attempt === ATTEMPTS_MAX) throw error;
      }
    }
  };
}

function die(death: Death): DeathAnswer {
  const { story, path, at, fails } = death;
  const answer = forkToDie(fails === undefined ? at : 0);
  if (answer !== "child") return answer;
  const file = openSync(death.told, "a");
  const told = { file, attempt: attemptOf(death) };
  try {
    if (fails !== undefined) failCalls({ ...fails, from: at, count: 1 });
    if (typeof story === "number") STORIES[story]?.live(path, told);
    else liveUnnumbered(story, path, told);
  } catch (error) {
    // Said as what the judge cannot find: a story that breaks off by itself is a defect.
    say(file, { kind: "did", what: "settle", id: `it threw ${String(error)}`, cost: "0" });
  }
  closeSync(file);
  // A failure that nobody had to be told of, as at a checkpoint: there may be more calls to fail behind it.
  if (fails?.next === "is killed" && stopFailing()) dieAtOnce();
  endAtOnce();
}

/** Without the event loop, whose state a child would share. */
function* linesOfInput(): Generator<string> {
  const buffer = Buffer.alloc(65_536);
  let text = "";
  for (;;) {
    const length = readSync(0, buffer);
    if (length === 0) return;
    text += buffer.toString("utf8", 0, length);
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
}

for (const line of linesOfInput()) writeSync(1, `${die(JSON.parse(line) as Death)}\n`);
process.exit(0);
