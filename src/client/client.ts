/**
 * The entry point `purser/client`: limits in this process, with a configuration written in code.
 * It holds names only; each thing is made and documented in its own file.
 */
export { createPurser } from "./purser.ts";
export type { CreatePurserOptions, Purser, PurserHandle } from "./purser.ts";
export { LimitReachedError } from "./limit-reached-error.ts";
export type { LimitCode } from "./limit-reached-error.ts";
export { InvalidConfigError } from "./invalid-config-error.ts";
export type { SdkMiddleware } from "./middleware.ts";
export type { LanguageModelMiddleware } from "./language-model.ts";
export type { CallScopes } from "./scopes.ts";
export { isToolRefusal } from "./tool.ts";
export type { ToolOptions, ToolRefusal, ToolWrapper } from "./tool.ts";
export type { Meter, MeteredCall, MeterOptions, Used } from "./meter.ts";
export type { AlertEvent, DecisionEvent, PurserEvents, SettledEvent, WarningEvent } from "./events.ts";
export type { ActionObject, Amount, ConfigObject, LimitObject } from "../config/config-object.ts";
export type { StatusJson } from "../reports/status-report.ts";
