/**
 * `purser serve`: the gateway, until a signal ends it.
 * Owns what is said at its start and its end; the gateway itself is gateway/serve.ts.
 * Invariants: the first line says which limits hold; every way of ending says what became of the calls that ran.
 */
import type { Command } from "commander";
import { CONFIG_FILE_DEFAULT, type LoadConfigResult } from "../../config/load-config.ts";
import type { Config } from "../../config/config.ts";
import type { Environment } from "../../config/environment.ts";
import { describeLimit } from "../../core/limits/describe.ts";
import { startGateway, type Gateway } from "../../gateway/serve.ts";
import { parseCount, quoteArgument } from "../arguments.ts";
import { writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT, wrongUsage } from "../exit.ts";
import { createLog, type Log } from "../output/log.ts";
import { clean, wrap } from "../output/text.ts";
import { addCommonOptions, readSettings, type CommonOptions, type Settings } from "../settings.ts";

interface ServeOptions extends CommonOptions {
  host?: string;
  port?: number;
}

/** How long running calls are waited for at the end. */
const DRAIN_MS_MAX = 30_000;
/** A second signal sooner than this is taken for the first one heard twice: npm passes one on that the terminal already sent. */
const SECOND_SIGNAL_MS_MIN = 1_000;

/** Adds the command. */
export function addServeCommand(program: Command, io: CliIo): void {
  const command = program
    .command("serve")
    .description("start the gateway that agents point their base URL at")
    .option("--host <host>", "the address to listen on (default: 127.0.0.1)")
    .option("--port <port>", "the port to listen on; 0: any that is free (default: 4141)", parseCount(0, 65_535));
  addCommonOptions(command).action(async (options: ServeOptions) => runServe(io, options));
}

async function runServe(io: CliIo, options: ServeOptions): Promise<void> {
  const settings = await readSettings(io, options, listenVariables(options));
  const { config } = settings;
  const log = createLog({ io, level: config.logLevel, timeZone: config.timeZone, hasColor: io.screen.isTerminal });
  for (const { message } of settings.warnings) log.tell("warn", "configuration", message);
  const gateway = await start(io, settings, log);
  const ended = untilSignal(io, gateway);
  writeLines(io, showStart(io, settings, gateway.url));
  await ended;
  await stop(io, gateway, log);
}

/** Options as the variables that stand for them, so that a reload of the file cannot undo them. */
function listenVariables({ host, port }: ServeOptions): Environment {
  if (host === "") throw wrongUsage("--host: found nothing; allowed: a host name or an IP address");
  return {
    ...(host === undefined ? {} : { PURSER_HOST: host, PURSER_SERVER_HOST: undefined }),
    ...(port === undefined ? {} : { PURSER_PORT: String(port), PURSER_SERVER_PORT: undefined }),
  };
}

async function start(io: CliIo, { config, env, fileName }: Settings, log: Log): Promise<Gateway> {
  try {
    return await startGateway({
      config,
      // Where there is no file yet, the first one that is written takes effect without a restart.
      configPath: fileName ?? CONFIG_FILE_DEFAULT,
      env,
      notifier: log.notifier,
      onReload: (result) => {
        // Watching a file that is not there tells once that it is not.
        if (fileName === undefined && isMissing(result)) return;
        tellReload(io, log, result);
      },
    });
  } catch (error) {
    throw describeStartFailure(error, config);
  }
}

function isMissing(result: LoadConfigResult): boolean {
  return (
    result.outcome === "invalid" && result.problems.every(({ line, found }) => line === undefined && found.includes("ENOENT"))
  );
}

function tellReload(io: CliIo, log: Log, result: LoadConfigResult): void {
  if (result.outcome === "invalid") {
    for (const { message } of result.problems)
      log.tell("error", "reload_failed", `the changed configuration is not used, the one before stays: ${message}`);
    return;
  }
  const { config } = result;
  log.tell("info", "reloaded", `the changed configuration ${config.version} is in force, ${countLimits(config)}`);
  for (const limit of config.limits) log.tell("info", "limit", describeLimit(limit, { nowMs: io.nowMs() }));
  for (const { message } of result.warnings) log.tell("warn", "configuration", message);
}

/** Resolves with the first signal. A later one ends the process at once, and leaves what runs to the next start. */
async function untilSignal(io: CliIo, gateway: Gateway): Promise<void> {
  return new Promise((resolve) => {
    let firstAtMs: number | undefined;
    io.signals(() => {
      if (firstAtMs === undefined) {
        firstAtMs = io.nowMs();
        resolve();
      } else if (io.nowMs() - firstAtMs >= SECOND_SIGNAL_MS_MIN) {
        io.exitNow(
          EXIT.foundWrong,
          `ended at once; ${countCalls(gateway.engine.runningCount)} cut, and counted at the bound when Purser starts again`,
        );
      }
    });
  });
}

async function stop(io: CliIo, gateway: Gateway, log: Log): Promise<void> {
  const running = gateway.engine.runningCount;
  const how =
    running === 0
      ? "nothing is running"
      : `${countCalls(running)} running may finish for up to ${DRAIN_MS_MAX / 1_000} s; a second signal ends at once`;
  log.tell("info", "stopping", `taking no more calls; ${how}`, io.isErrorTerminal ? {} : { running });
  const { cut } = await gateway.close(DRAIN_MS_MAX);
  const unsettled = gateway.engine.unsettledCount;
  if (unsettled > 0) {
    throw new CliError(
      EXIT.failed,
      `stopped, but the ledger could not be written: ${countCalls(unsettled)} not settled, and counted at the bound when Purser starts again`,
    );
  }
  if (cut > 0) {
    // Whoever restarts it by a script has to be able to tell.
    throw new CliError(
      EXIT.foundWrong,
      `stopped; ${countCalls(cut)} cut after ${DRAIN_MS_MAX / 1_000} s and settled at what is known`,
    );
  }
  log.tell("info", "stopped", "stopped; every call was settled", io.isErrorTerminal ? {} : { cut });
}

function describeStartFailure(error: unknown, { server }: Config): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const at = `${clean(server.host)}:${server.port}`;
  switch (code) {
    case "EADDRINUSE":
      return new CliError(
        EXIT.failed,
        `port ${server.port} on ${clean(server.host)} is in use by another program (another purser serve?); end that one, or use another port: npx purser serve --port ${server.port + 1}`,
        { cause: error },
      );
    case "EACCES":
      return new CliError(
        EXIT.failed,
        `the operating system does not let this user listen on ${at}; ports from 1024 on are free to use`,
        { cause: error },
      );
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new CliError(
        EXIT.failed,
        `${quoteArgument(server.host)} is no address of this machine; 127.0.0.1 is for this machine alone, 0.0.0.0 for every network`,
        {
          cause: error,
        },
      );
    default:
      return error;
  }
}

function showStart(io: CliIo, settings: Settings, url: string): string[] {
  const { screen } = io;
  const { bold, cyan, dim } = screen.style;
  const { config, fileName } = settings;
  const reachable = reachableUrl(url);
  const limits = config.limits.map((limit) => clean(describeLimit(limit, { nowMs: io.nowMs() })));
  const first =
    fileName === undefined && config.isDefaultLimit
      ? wrap(`Limit (the default; npx purser init writes a file to change it): ${limits.join(" ")}`, screen.width, "  ")
      : [
          `${bold(countLimits(config))}${config.isDefaultLimit ? " (the default)" : ""}${fileName === undefined ? "" : `, from ${clean(fileName)}`}:`,
          ...limits.flatMap((limit) => wrap(`• ${limit}`, screen.width - 2, "  ").map((line) => `  ${line}`)),
        ];
  const line = (name: string, text: string): string => `${dim(name.padEnd(14))}${text}`;
  return [
    ...first,
    "",
    line("Gateway", bold(url)),
    line("Anthropic SDK", cyan(`export ANTHROPIC_BASE_URL=${reachable}`)),
    line("OpenAI SDK", cyan(`export OPENAI_BASE_URL=${reachable}/v1`)),
    line("Claude Code", cyan(`ANTHROPIC_BASE_URL=${reachable} claude`)),
    line("Ledger", clean(config.ledger.path)),
    line("Look", `${cyan("npx purser status --watch")}${dim(", npx purser report")}`),
    ...(screen.isTerminal ? [dim("Ctrl-C ends it; running calls may finish.")] : []),
  ];
}

/** An address that listens on every network is reached on this machine by its own name. */
function reachableUrl(url: string): string {
  return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");
}

function countLimits({ limits }: Config): string {
  return limits.length === 0 ? "No limit holds" : `${limits.length} limit${limits.length === 1 ? " holds" : "s hold"}`;
}

function countCalls(count: number): string {
  return `${count} call${count === 1 ? "" : "s"}`;
}
