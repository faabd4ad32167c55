/** Runs one schedule again and prints all of it: `node test/simulation/replay.ts SEED`. */
import { planOf } from "./plan.ts";
import { runSchedule } from "./schedule.ts";

const seed = Number(process.argv[2]);
const toText = (_: string, value: unknown): unknown => (typeof value === "bigint" ? `${value}` : value);
process.stdout.write(`${JSON.stringify(planOf(seed), toText, 1)}\n`);
const tally = {};
const { violations, trace } = await runSchedule(seed, { hasTrace: true, tally });
process.stdout.write([...trace, JSON.stringify(tally), ...violations, ""].join("\n"));
