/**
 * The entry point `purser`: everything a program needs. Besides `purser/client` it reads `purser.yaml` and the environment where nobody
 * says what holds.
 */
import { loadConfig } from "../config/load-config.ts";
import { configOf, createPurser as createClient, startPurser, type CreatePurserOptions, type Purser } from "./purser.ts";

/**
 * Opens the ledger and puts the limits in force.
 *
 * @param options.config the members of `purser.yaml`, or the path of a file of them. @defaultValue `PURSER_CONFIG`, else `./purser.yaml` if it is there, else $50 a day
 * for everything
 * @throws {@link InvalidConfigError} naming every mistake; whatever opening the ledger throws.
 * @example
 * const purser = await createPurser({ config: "purser.yaml", ledger: ".purser/ledger.db" });
 * const anthropic = new Anthropic({ fetch: purser.fetch });
 * await purser.run({ agent: "ticket-responder", session: "ticket-4821" }, () => anthropic.messages.create(request));
 * await purser.close();
 */
export async function createPurser(options: CreatePurserOptions = {}): Promise<Purser> {
  if (options.config !== undefined) return createClient(options);
  return startPurser(configOf(await loadConfig({ path: undefined, env: process.env })), options);
}

export { InvalidConfigError, isToolRefusal, LimitReachedError } from "./client.ts";
export type {
  ActionObject,
  AlertEvent,
  Amount,
  CallScopes,
  ConfigObject,
  CreatePurserOptions,
  DecisionEvent,
  LimitCode,
  LanguageModelMiddleware,
  LimitObject,
  Meter,
  MeteredCall,
  MeterOptions,
  Purser,
  PurserEvents,
  PurserHandle,
  SdkMiddleware,
  SettledEvent,
  StatusJson,
  ToolOptions,
  ToolRefusal,
  ToolWrapper,
  Used,
  WarningEvent,
} from "./client.ts";
