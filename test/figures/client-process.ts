/**
 * One of several agent processes that share a ledger's file: makes calls with `purser.fetch` to a provider inside itself, and prints what it
 * saw as JSON. Arguments: the ledger's path, the configuration as JSON, how many calls, how many at once.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { createPurser, type ConfigObject } from "../../src/client/entry.ts";

const [ledger = "", config = "{}", calls = "0", atOnce = "1"] = process.argv.slice(2);
const answer = JSON.stringify({
  id: "msg_1",
  type: "message",
  role: "assistant",
  model: "claude-haiku-5-5",
  content: [{ type: "text", text: "done" }],
  stop_reason: "end_turn",
  usage: { input_tokens: 20, output_tokens: 30 },
});
const counts = { answered: 0, denied: 0, failed: 0 };
const problems: string[] = [];

const purser = await createPurser({
  config: JSON.parse(config) as ConfigObject,
  ledger,
  fetch: () => Promise.resolve(new Response(answer, { headers: { "content-type": "application/json", "request-id": "req" } })),
});
purser.on("warning", ({ event }) => problems.push(event));

const body = JSON.stringify({ model: "claude-haiku-5-5", max_tokens: 64, messages: [{ role: "user", content: "Go on." }] });
const init = { method: "POST", headers: { "content-type": "application/json", "x-api-key": "k" }, body };
async function ask(): Promise<void> {
  const response = await purser.fetch("https://api.anthropic.com/v1/messages", init);
  await response.text();
  if (response.status === 200) counts.answered += 1;
  else if (response.status === 402) counts.denied += 1;
  else {
    counts.failed += 1;
    problems.push(String(response.status));
  }
}

// Loading is behind it when it begins: what a first call loads stands still for that long.
await ask();
await new Promise((resolve) => process.stdin.once("data", resolve));
process.stdin.unref();
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
let left = Number(calls) - 1;
const work = async (): Promise<void> => {
  for (; left > 0;) {
    left -= 1;
    await purser.run({ agent: "worker", session: String(process.pid) }, ask);
  }
};
await Promise.all(Array.from({ length: Number(atOnce) }, work));
delay.disable();
await purser.close();
const cpuUs = process.cpuUsage();
process.stdout.write(
  JSON.stringify({
    ...counts,
    problems,
    stallMs: delay.max / 1e6,
    p99Ms: delay.percentile(99) / 1e6,
    cpuMs: (cpuUs.user + cpuUs.system) / 1e3,
  }),
);
