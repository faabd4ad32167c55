/**
 * The entry point `purser/config`: reading a configuration from a file, a text or an object.
 * It holds names only; each thing is made and documented in its own file.
 */
export { loadConfig } from "./load-config.ts";
export type { LoadConfigResult } from "./load-config.ts";
export { readConfig } from "./config.ts";
export type { Config, ReadConfigInput, ReadConfigResult } from "./config.ts";
export { readConfigObject } from "./config-object.ts";
export type { ActionObject, Amount, ConfigObject, LimitObject } from "./config-object.ts";
export type { ConfigProblem, ConfigWarning } from "./problems.ts";
