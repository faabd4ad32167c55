/**
 * Owns the configuration: text and environment become one checked `Config`, or every mistake with its place.
 * Does not own reading files (load-config.ts) or noticing that one changed (gateway/).
 * Invariant: a pure function of its input; any text at all ends in one of its two outcomes. What it accepts is enforced.
 */
import type { Limit, WeekDay } from "../core/limits/limit.ts";
import type { PriceRow } from "../core/pricing/price.ts";
import { readDocument } from "./document.ts";
import type { LogLevel } from "./environment.ts";
import type { LedgerLocation } from "./ledger-location.ts";
import { overlayEnvironment } from "./overlay.ts";
import type { ConfigProblem, ConfigWarning } from "./problems.ts";
import { Problems } from "./problems.ts";
import { readTree, type ReadTreeInput } from "./read-tree.ts";
import type { ServerSettings, Upstreams } from "./settings-reader.ts";
import { addWarnings } from "./warnings.ts";

/** Everything a person can decide about Purser, read and checked. */
export interface Config {
  /** IANA zone of calendar windows that name none. */
  timeZone: string;
  weekStart: WeekDay;
  /** In the order of the file, those of `budget:` last. */
  limits: readonly Limit[];
  /** True if nobody wrote a limit, so that the built-in one holds. */
  isDefaultLimit: boolean;
  /** What a model is replaced by at `downgrade`; chains end. */
  downgrade: ReadonlyMap<string, string>;
  /** The person's own prices. */
  prices: readonly PriceRow[];
  onLedgerUnavailable: "deny" | "allow";
  onUnpricedModel: "deny" | "dearest";
  onClientAbort: "cancel" | "drain";
  upstreams: Upstreams;
  server: ServerSettings;
  ledger: LedgerLocation & {
    /** What is older goes to an archive; `undefined`: everything stays. */
    keepDays: number | undefined;
  };
  logLevel: LogLevel;
  /** Twelve characters that change with anything above: stored with every decision. */
  version: string;
}

/** What reading ends in. */
export type ReadConfigResult =
  | { outcome: "read"; config: Config; warnings: readonly ConfigWarning[] }
  | { outcome: "invalid"; problems: readonly ConfigProblem[] };

export interface ReadConfigInput extends ReadTreeInput {
  /** The file's text; absent: there is no file. */
  text: string | undefined;
}

/**
 * Reads a configuration.
 *
 * @returns `read` with the warnings `purser check` shows, or `invalid` with at least one problem; never throws for any text.
 */
export function readConfig(input: ReadConfigInput): ReadConfigResult {
  const problems = new Problems();
  const document = input.text === undefined ? undefined : readDocument(input.text, input.fileName, "", problems);
  const tree = overlayEnvironment(document, input.env, problems);
  const { config, parts } = readTree(tree, input, problems);
  addWarnings(config, parts, problems);
  if (problems.problems.length > 0) return { outcome: "invalid", problems: problems.sorted() };
  return { outcome: "read", config, warnings: problems.warnings };
}
