/**
 * Owns the configuration as code writes it: the members of `purser.yaml` as one object. Does not own their meaning: they go through the same
 * readers as a file's (read-tree.ts), without YAML.
 * Invariant: what is written in code is what holds; no variable of the environment changes it.
 */
import type { PriceBook } from "../core/pricing/price.ts";
import type { ReadConfigResult } from "./config.ts";
import { fromObject } from "./object-node.ts";
import { Problems } from "./problems.ts";
import { readTree } from "./read-tree.ts";

/** An amount: a number as it is written, or its text, such as `"0.10"` or `"100_000"`. */
export type Amount = number | string | bigint;

/** What happens at a threshold: a name, or a name with its settings, such as `{ throttle: "2s" }`. */
export type ActionObject = string | Readonly<Record<string, unknown>>;

/** One limit; `docs/configuration.md` says what each member means. */
export interface LimitObject {
  name: string;
  per: string | readonly string[];
  where?: Readonly<Record<string, string | readonly string[]>>;
  usd?: Amount;
  tokens?: Amount;
  inputTokens?: Amount;
  outputTokens?: Amount;
  requests?: Amount;
  concurrency?: Amount;
  toolCalls?: Amount;
  /** With `toolCalls`: only these tools. */
  tool?: string | readonly string[];
  /** Absent: the scope's whole life. */
  every?: string;
  timezone?: string;
  weekStart?: string;
  monthDay?: number;
  cacheReads?: "count" | "ignore";
  fit?: string;
  unbounded?: Readonly<Record<string, unknown>>;
  /** What happens at which share or amount; absent: stop at all of it. */
  at?: Readonly<Record<string, ActionObject | readonly ActionObject[]>>;
}

/** The members of `purser.yaml`; all are optional. */
export interface ConfigObject {
  timezone?: string;
  weekStart?: string;
  /** Absent, and `budget` too: $50 a day for everything. */
  limits?: readonly LimitObject[];
  budget?: Readonly<Record<string, unknown>>;
  models?: { downgrade?: Readonly<Record<string, string>> };
  prices?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  onLedgerUnavailable?: "deny" | "allow";
  onUnpricedModel?: "deny" | "dearest";
  onClientAbort?: "cancel" | "drain";
  upstreams?: { anthropic?: string; openai?: string };
  /** For the gateway only. */
  server?: Readonly<Record<string, unknown>>;
  ledger?: { keepDays?: number };
}

/** Reads a configuration written in code; as `readConfig` in its outcomes, but without looking for what is worth a warning. */
export function readConfigObject(input: { config: ConfigObject; knownPrices?: PriceBook | undefined }): ReadConfigResult {
  const problems = new Problems();
  const fileName = "config";
  const tree = fromObject(input.config, fileName, "", problems);
  const { config } = readTree(tree, { fileName, env: {}, knownPrices: input.knownPrices }, problems);
  if (problems.problems.length > 0) return { outcome: "invalid", problems: problems.sorted() };
  return { outcome: "read", config, warnings: problems.warnings };
}
