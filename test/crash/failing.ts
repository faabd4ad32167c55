/**
 * A program under the shim: a gateway and a provider whose ledger fails at its Nth call to the system, for every N until there is none,
 * while calls begin and a stream ends. Nothing is restarted. Says what it found as JSON at its end.
 */
import { readConfig } from "../../src/config/config.ts";
import type { Clock } from "../../src/engine/ports.ts";
import { startGateway, type Gateway } from "../../src/gateway/serve.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { startSimulator, type Simulator } from "../../src/testing/testing.ts";
import { ask, begin, messageOf, readAnswer, until } from "../e2e/http.ts";
import { failCalls, stopFailing, type ERRORS } from "./shim.ts";

/** What the program says at its end. */
export interface FailingReport {
  /** Places where a call failed, by the way they failed. */
  places: Record<string, number>;
  /** Calls answered 503 `ledger_unavailable`. */
  refused: number;
  /** Calls that were made. */
  made: number;
  /** The most endings that waited for the ledger at once. */
  waitingMost: number;
  problems: string[];
}

type Fault = { name: string; error: keyof typeof ERRORS; kinds: string; count: number };

const FOR_LONG = 1_000_000;
const FAULTS: readonly Fault[] = [
  { name: "disk full from a write on", error: "ENOSPC", kinds: "w", count: FOR_LONG },
  { name: "disk full for one write", error: "ENOSPC", kinds: "w", count: 1 },
  { name: "one write failed", error: "EIO", kinds: "w", count: 1 },
  { name: "one sync failed", error: "EIO", kinds: "s", count: 1 },
  { name: "syncs failed from one on", error: "EIO", kinds: "s", count: FOR_LONG },
  { name: "one read failed", error: "EIO", kinds: "r", count: 1 },
];
/** Calls that begin while the ledger fails. */
const CALLS = 4;
/** What waits for half a second is tried again at once, so that a round takes milliseconds. */
const FASTER = 100;

const clock: Clock = {
  nowMs: Date.now,
  after(waitMs, callBack) {
    const timer = setTimeout(callBack, waitMs / FASTER);
    return () => clearTimeout(timer);
  },
};
const report: FailingReport = { places: {}, refused: 0, made: 0, waitingMost: 0, problems: [] };

/** A stream that stands still after its second event. */
async function openStream(url: string, simulator: Simulator): Promise<{ finish: () => Promise<string> }> {
  const held = Promise.withResolvers<void>();
  let events = 0;
  const step = async (): Promise<void> => ((events += 1) <= 2 ? undefined : held.promise);
  simulator.next({ kind: "answer", outputTokens: 40, deltas: 4, step });
  const response = await begin(url, { body: messageOf({ stream: true }) });
  return {
    async finish() {
      held.resolve();
      return (await readAnswer(response)).text;
    },
  };
}

async function round(gateway: Gateway, simulator: Simulator, fault: Fault, from: number): Promise<boolean> {
  const where = `${fault.name}, call ${from}`;
  const tell = (problem: string): void => void report.problems.push(`${where}: ${problem}`);
  const stream = await openStream(gateway.url, simulator);
  const before = simulator.requests.length;
  failCalls({ ...fault, from });
  const asked = Array.from({ length: CALLS }, () => ask(gateway.url));
  const streamed = await stream.finish();
  const answers = await Promise.all(asked);
  const isAlive = (await ask(gateway.url, { method: "GET", path: "/healthz" })).status === 200;
  report.waitingMost = Math.max(report.waitingMost, gateway.engine.unsettledCount);
  const hasFailed = stopFailing();

  const refused = answers.filter(({ status, error }) => status === 503 && error?.details["code"] === "ledger_unavailable");
  const served = answers.filter(({ status }) => status === 200);
  if (!streamed.includes("event: message_stop")) tell("the running stream did not finish");
  if (refused.length + served.length !== CALLS) tell(`answers ${answers.map(({ status }) => status).join(", ")}`);
  if (simulator.requests.length - before !== served.length) tell("a call that was refused was forwarded");
  if (!isAlive) tell("the process does not answer");
  report.refused += refused.length;
  report.made += served.length + 2;

  await until(() => gateway.engine.unsettledCount === 0);
  const after = await ask(gateway.url);
  if (after.status !== 200) tell(`the next call is answered ${after.status}: ${after.text}`);
  return hasFailed;
}

async function compare(gateway: Gateway, simulator: Simulator): Promise<void> {
  const calls = await gateway.ledger.calls({ limit: 1_000_000 });
  const settled = calls.filter(({ status }) => status === "settled");
  const recorded = settled.reduce((sum, call) => sum + (call.costNanoUsd ?? 0n), 0n);
  const { totalNanoUsd, lines } = simulator.bill;
  if (recorded !== totalNanoUsd) report.problems.push(`recorded ${recorded}, billed ${totalNanoUsd}`);
  if (settled.length !== lines.length) report.problems.push(`${settled.length} calls settled, ${lines.length} billed`);
  const open = await gateway.ledger.openCalls();
  if (open.length > 0) report.problems.push(`${open.length} calls are still held`);
}

const [path = ""] = process.argv.slice(2);
const simulator = await startSimulator();
const env = { PURSER_PORT: "0", PURSER_LEDGER: path, PURSER_ANTHROPIC_URL: simulator.url };
const read = readConfig({
  text: "limits: [{ name: all-spend, per: all, usd: 1_000_000 }]\n",
  fileName: "purser.yaml",
  env,
});
if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join("\n"));
const gateway = await startGateway({
  config: read.config,
  env,
  clock,
  notifier: { alert: () => undefined, warn: () => undefined },
  load: { lagMs: () => 0, heapShare: () => 0, close: () => undefined },
});
for (const fault of FAULTS) {
  let from = 1;
  while (report.problems.length === 0 && (await round(gateway, simulator, fault, from))) from += 1;
  report.places[fault.name] = from - 1;
}
await simulator.idle();
await compare(gateway, simulator);
await gateway.close(5_000);
await simulator.close();
report.problems.push(...verifySqliteLedger(path).differences);
process.stdout.write(JSON.stringify(report));
process.exit(0);
