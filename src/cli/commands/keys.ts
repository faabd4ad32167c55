/**
 * `purser keys`: virtual keys, which bind a project and an agent.
 * Invariant: the secret is shown once, when it is made, on standard output alone; the ledger keeps its hash.
 */
import type { Command } from "commander";
import { labelProblem } from "../../engine/identify.ts";
import { hashSecret } from "../../exchange/system.ts";
import { createVirtualKeySecret } from "../../gateway/virtual-key.ts";
import type { VirtualKey } from "../../ledger/ledger.ts";
import { formatInstant } from "../../core/windows/instant.ts";
import { parseEdge } from "../../reports/period.ts";
import { quoteArgument } from "../arguments.ts";
import { writeJson, writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT, wrongUsage } from "../exit.ts";
import { formatLocal } from "../output/instants.ts";
import { renderTable, type Cell } from "../output/table.ts";
import { clean } from "../output/text.ts";
import {
  addCommonOptions,
  noLedgerLines,
  openExistingLedger,
  readSettings,
  withLedger,
  type CommonOptions,
} from "../settings.ts";

interface CreateOptions extends CommonOptions {
  project: string;
  agent: string;
  allow?: string;
  expires?: string;
  json?: boolean;
}

const TAG_LABEL = /^tag:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

/** Adds the command and its three parts. */
export function addKeysCommand(program: Command, io: CliIo): void {
  const keys = program.command("keys").description("make, list and revoke virtual keys");
  const create = keys
    .command("create")
    .description("make a key; its secret is shown once")
    .requiredOption("--project <name>", "the project that its calls count for")
    .requiredOption("--agent <name>", "the agent that its calls count for")
    .option("--allow <labels>", "labels a caller may set itself: user, tag:NAME; several with commas")
    .option("--expires <when>", "a date (its end) or an instant from which on it does not work")
    .option("--json", "print JSON");
  addCommonOptions(create).action(async (options: CreateOptions) => createKey(io, options));
  const list = keys.command("list").description("list all keys, without their secrets").option("--json", "print JSON");
  addCommonOptions(list).action(async (options: CommonOptions & { json?: boolean }) => listKeys(io, options));
  const revoke = keys
    .command("revoke")
    .description("end a key for good; it stops working within a second")
    .argument("<id>", "the key's id");
  addCommonOptions(revoke).action(async (id: string, options: CommonOptions) => revokeKey(io, id, options));
}

async function createKey(io: CliIo, options: CreateOptions): Promise<void> {
  const settings = await readSettings(io, options);
  const nowMs = io.nowMs();
  for (const name of ["project", "agent"] as const) {
    const problem = options[name] === "" ? `${name} is empty` : labelProblem(name, options[name]);
    if (problem !== undefined) throw wrongUsage(`--${name}: ${problem}`);
  }
  const allow = readAllow(options.allow);
  const expiresAtMs = readExpiry(options.expires, settings.config.timeZone, nowMs);
  const { keyId, secret } = createVirtualKeySecret();
  const { project, agent } = options;
  const key: VirtualKey = {
    keyId,
    secretHash: hashSecret(secret),
    project,
    agent,
    allow,
    createdAtMs: nowMs,
    expiresAtMs,
    revokedAtMs: undefined,
  };
  await withLedger(await io.openLedger(settings.config.ledger.path), async (ledger) => ledger.createKey(key));
  if (options.json === true) return writeJson(io, { ...toKeyJson(key, nowMs), secret });
  const { bold, dim } = io.screen.style;
  const ends =
    expiresAtMs === undefined ? "" : `, until ${formatLocal(expiresAtMs, settings.config.timeZone)} ${settings.config.timeZone}`;
  writeLines(io, [
    `Key ${bold(keyId)} for project ${clean(project)}, agent ${clean(agent)}${ends}.`,
    "Its secret, shown only now:",
    "",
    `  ${bold(secret)}`,
    "",
    "The agent uses it as its API key; the gateway needs the provider's own in ANTHROPIC_API_KEY.",
    dim(`End it with:  npx purser keys revoke ${keyId}`),
  ]);
}

async function listKeys(io: CliIo, options: CommonOptions & { json?: boolean }): Promise<void> {
  const settings = await readSettings(io, options);
  const { timeZone, ledger: location } = settings.config;
  const nowMs = io.nowMs();
  const ledger = await openExistingLedger(io, settings);
  const keys = ledger === undefined ? [] : await withLedger(ledger, async () => ledger.keys());
  const sorted = keys.toSorted((a, b) => b.createdAtMs - a.createdAtMs || (a.keyId < b.keyId ? -1 : 1));
  if (options.json === true)
    return writeJson(
      io,
      sorted.map((key) => toKeyJson(key, nowMs)),
    );
  if (ledger === undefined) return writeLines(io, noLedgerLines(location.path));
  if (sorted.length === 0) {
    return writeLines(io, ["No virtual key was made yet:", "  npx purser keys create --project my-project --agent my-agent"]);
  }
  const when = (atMs: number | undefined): string => (atMs === undefined ? "–" : formatLocal(atMs, timeZone, "minute"));
  const { style } = io.screen;
  const rows = sorted.map((key): Cell[] => {
    const state = stateOf(key, nowMs);
    return [
      key.keyId,
      key.project,
      key.agent,
      { text: state, paint: state === "active" ? style.green : style.red },
      key.allow.length === 0 ? "–" : key.allow.join(", "),
      when(key.createdAtMs),
      when(key.expiresAtMs),
    ];
  });
  writeLines(io, [
    ...renderTable(
      {
        columns: [
          { title: "Key", kind: "whole" },
          { title: "Project", kind: "text" },
          { title: "Agent", kind: "text" },
          { title: "State", kind: "whole" },
          { title: "May set", kind: "text", dropOrder: 2 },
          { title: "Made", kind: "whole", dropOrder: 3 },
          { title: "Expires", kind: "whole", dropOrder: 1 },
        ],
        rows,
      },
      io.screen,
    ),
  ]);
}

async function revokeKey(io: CliIo, id: string, options: CommonOptions): Promise<void> {
  const settings = await readSettings(io, options);
  const ledger = await openExistingLedger(io, settings);
  if (ledger === undefined) throw unknownKey(id);
  await withLedger(ledger, async () => {
    const key = (await ledger.keys()).find(({ keyId }) => keyId === id);
    if (key === undefined) throw unknownKey(id);
    const isRevoked = await ledger.revokeKey({ keyId: id, atMs: io.nowMs() });
    writeLines(io, [
      isRevoked
        ? `Key ${clean(id)} is revoked: it stops working within a second, for good.`
        : `Key ${clean(id)} was revoked before.`,
    ]);
  });
}

function unknownKey(id: string): CliError {
  // Who pastes the secret has to be told which part of it is the id, without seeing it again.
  const hint = id.startsWith("prs_") ? "the id is the eight characters behind prs_" : "`npx purser keys list` shows all ids";
  return new CliError(
    EXIT.foundWrong,
    `no key ${id.startsWith("prs_") ? "with that name" : quoteArgument(id)} in this ledger; ${hint}`,
  );
}

function readAllow(text: string | undefined): string[] {
  const labels = (text ?? "")
    .split(",")
    .map((label) => label.trim())
    .filter((label) => label !== "");
  const wrong = labels.find((label) => label !== "user" && !TAG_LABEL.test(label));
  if (wrong !== undefined)
    throw wrongUsage(`--allow: found ${quoteArgument(wrong)}; allowed: user, tag:NAME (letters, digits, _ . -)`);
  return [...new Set(labels)];
}

function readExpiry(text: string | undefined, timeZone: string, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  const atMs = parseEdge(text, "end", timeZone, nowMs);
  if (atMs === undefined)
    throw wrongUsage(
      `--expires: found ${quoteArgument(text)}; allowed: a date such as 2027-01-31, or an instant such as 2027-01-31T10:00Z`,
    );
  if (atMs <= nowMs) throw wrongUsage(`--expires: ${quoteArgument(text)} is over already`);
  return atMs;
}

function stateOf({ revokedAtMs, expiresAtMs }: VirtualKey, nowMs: number): "active" | "revoked" | "expired" {
  if (revokedAtMs !== undefined) return "revoked";
  return expiresAtMs !== undefined && expiresAtMs <= nowMs ? "expired" : "active";
}

function toKeyJson(key: VirtualKey, nowMs: number): Record<string, unknown> {
  const instant = (atMs: number | undefined): string | null => (atMs === undefined ? null : formatInstant(atMs));
  const { keyId, project, agent, allow } = key;
  return {
    id: keyId,
    project,
    agent,
    allow,
    state: stateOf(key, nowMs),
    createdAt: formatInstant(key.createdAtMs),
    expiresAt: instant(key.expiresAtMs),
    revokedAt: instant(key.revokedAtMs),
  };
}
