/**
 * Owns how long work shows how far it is: a line on a terminal's standard error that is drawn over, and gone at the end.
 */
import type { CliIo } from "../cli-io.ts";

const CLEAR_LINE = "\r\u001B[K";
/** What is over sooner needs no figure on the way. */
const QUIET_MS = 500;

export interface Progress {
  show: (share: number) => void;
  end: () => void;
}

/** @param what is being done, as the line begins: "checking". */
export function createProgress(io: CliIo, what: string): Progress {
  const startedAtMs = io.nowMs();
  let shown: number | undefined;
  return {
    show(share) {
      const percent = Math.floor(share * 100);
      if (!io.isErrorTerminal || percent === shown || io.nowMs() - startedAtMs < QUIET_MS) return;
      shown = percent;
      io.writeError(`${CLEAR_LINE}${what} … ${percent} %`);
    },
    end() {
      if (shown !== undefined) io.writeError(CLEAR_LINE);
    },
  };
}
