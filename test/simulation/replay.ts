/**
 * Runs one schedule again and prints all of it: `node test/simulation/replay.ts SEED [GRAMMAR]`. A kept seed has the grammar it was kept
 * with, any other the newest.
 */
import kept from "./kept-seeds.json" with { type: "json" };
import { GRAMMAR, planOf } from "./plan.ts";
import { runSchedule } from "./schedule.ts";

const seed = Number(process.argv[2]);
const grammar = Number(process.argv[3] ?? kept.find((one) => one.seed === seed)?.grammar ?? GRAMMAR);
const toText = (_: string, value: unknown): unknown => (typeof value === "bigint" ? `${value}` : value);
process.stdout.write(`${JSON.stringify(planOf(seed, grammar), toText, 1)}\n`);
const tally = {};
const { violations, trace } = await runSchedule(seed, { grammar, hasTrace: true, tally });
process.stdout.write([...trace, JSON.stringify(tally), ...violations, ""].join("\n"));
