/** What each command says and answers, beyond how it looks: JSON, exit codes, mistakes, empty ledgers. */
import { readFile, writeFile } from "node:fs/promises";
import Database from "better-sqlite3";
import { beforeAll, describe, expect, it } from "vitest";
import { createProgram } from "../../src/cli/program.ts";
import type { CliIo } from "../../src/cli/cli-io.ts";
import { LedgerUnavailableError, type Ledger } from "../../src/ledger/ledger.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { settleOf } from "../contract/samples.ts";
import { PIPED, runCli, seededLedger, terminal, useTemporaryFolder } from "./cli-harness.ts";
import { NOW_MS, seedLedger, SEED_YAML } from "./cli-seed.ts";

useTemporaryFolder();
let ledger: Ledger;
beforeAll(async () => {
  ledger = await seededLedger();
  await writeFile("purser.yaml", SEED_YAML);
});

function leafCommands(): { name: string; options: string[] }[] {
  const commands = createProgram({ screen: PIPED } as CliIo, "0").commands;
  const leaves = commands.flatMap((command) => (command.commands.length === 0 ? [command] : command.commands));
  return leaves.map((command) => ({ name: command.name(), options: command.options.map(({ long }) => long ?? "") }));
}

describe("every command", () => {
  it.each(leafCommands().map(({ name, options }) => [name, options] as const))("%s takes --ledger", (_name, options) => {
    expect(options).toContain("--ledger");
  });

  it.each(["status", "report", "calls", "check", "cost --model claude-opus-5-5 --input 1", "keys list"])(
    "%s refuses a ledger it cannot use, with what is allowed",
    async (command) => {
      const { err, exitCode } = await runCli(`${command} --ledger postgres://user:secret@host/db`, { ledger });

      expect(exitCode).toBe(2);
      expect(err).toBe(
        "purser: --ledger: found a PostgreSQL address; allowed: a path, or sqlite:PATH (PostgreSQL is not supported yet)\n",
      );
    },
  );

  it.each(["status", "report", "calls", "keys list", "check"])(
    "%s stops at a broken configuration, with every place in it",
    async (command) => {
      await writeFile("broken.yaml", "limits:\n  - { name: a, per: all, usd: ten }\n  - { name: b, per: planet, usd: 1 }\n");
      const named = command === "check" ? "check broken.yaml" : `${command} --config broken.yaml`;

      const { out, err, exitCode } = await runCli(named, { ledger });

      expect({ out, exitCode }).toEqual({ out: "", exitCode: 1 });
      const lines = err.trimEnd().split("\n");
      expect(lines).toHaveLength(2);
      expect(lines[0]).toMatch(/^purser: broken\.yaml:2:\d+: .*found "ten"/);
      expect(lines[1]).toMatch(/^purser: broken\.yaml:3:\d+: .*found "planet"/);
    },
  );

  it.each([
    "frobnicate",
    "status --wach",
    "report --format pdf",
    "calls --limit 0",
    "cost",
    "cost --model m --input -1",
    "keys create --project p",
  ])("answers wrong usage with a sentence and code 2: %s", async (command) => {
    const { err, exitCode } = await runCli(command, { ledger });

    expect(exitCode).toBe(2);
    expect(err).toMatch(/^purser: /);
    expect(err).not.toMatch(/\n\s+at /);
  });
});

describe("adjust", () => {
  const adjust = async (words: readonly string[], own: Ledger) =>
    runCli(["adjust", ...words], { ledger: own, env: { USER: "ann" } });
  const costsOf = async (own: Ledger) => {
    const [record] = await own.calls({ limit: 1, callId: "call_r1" });
    return record?.costNanoUsd;
  };

  it("corrects a call by its id or its number, once per name, and every view shows the corrected cost", async () => {
    const own = await seededLedger();
    const words = ["call_r1", "--usd", "-0.25", "--reason", "credited by the provider", "--id", "credit-1"];
    const first = await adjust(words, own);
    const again = await adjust(words, own);
    const byNumber = await adjust(["43", "--usd", "+0.1", "--reason", "a fee", "--id", "fee-1"], own);

    expect(first).toEqual({ out: 'Call "call_r1" is corrected by -$0.25 to $0.02072 (credit-1).\n', err: "", exitCode: 0 });
    expect(again).toEqual({
      out: 'Call "call_r1" was corrected by -$0.25 before (credit-1); it counts with $0.02072.\n',
      err: "",
      exitCode: 0,
    });
    expect(byNumber).toMatchObject({ out: 'Call "call_r1" is corrected by +$0.10 to $0.12072 (fee-1).\n', exitCode: 0 });
    expect((await runCli("calls --session night-shift", { ledger: own })).out).toMatch(
      / 43 .* settled, corrected .* \$0\.120720 /,
    );
    const explained = await runCli("calls --explain call_r1", { ledger: own });
    expect(explained.out).toContain(`  $0.24 + $0.03072 = $0.27072, $0.52096 had been set aside
  price rows: anthropic/claude-opus-5-5@2026-09-22
  corrected by -$0.25, 2026-11-22 10:04:05 UTC, by ann (credit-1): credited by the provider
  corrected by +$0.10, 2026-11-22 10:04:05 UTC, by ann (fee-1): a fee
  counted at $0.27072 - $0.25 + $0.10 = $0.12072
`);
    const json = await runCli("calls --explain call_r1 --json", { ledger: own });
    expect(JSON.parse(json.out)).toMatchObject({
      costUsd: "0.12072",
      flags: ["adjusted"],
      adjustments: [{ id: "credit-1", addedUsd: "-0.25", reason: "credited by the provider", by: "ann" }, { id: "fee-1" }],
    });
  });

  it.each([
    [["call_r1", "--usd", "-0.28"], 'call "call_r1" counts with $0.27072, which -$0.28 would bring below zero'],
    [["call_r3", "--usd", "1"], 'call "call_r3" was denied: nothing was sent to the provider'],
    [["no-such-call", "--usd", "1"], 'no call "no-such-call" in the ledger'],
  ])("finds something wrong, says so, and changes nothing: %j", async (words, sentence) => {
    const own = await seededLedger();

    const { out, err, exitCode } = await adjust([...words, "--reason", "why"], own);

    expect({ out, exitCode }).toEqual({ out: "", exitCode: 1 });
    expect(err).toContain(sentence);
    expect(await costsOf(own)).toBe(270_720_000n);
  });

  it.each(["", "0", "-0.00", "ten", "--1", "1e3", "0.0000000001", "9_999_999_999"])(
    "refuses an amount that is none: %j",
    async (usd) => {
      const { err, exitCode } = await adjust(["call_r1", `--usd=${usd}`, "--reason", "why"], ledger);

      expect(exitCode).toBe(2);
      expect(err).toMatch(/^purser: --usd: found .*allowed: dollars with a sign/);
    },
  );

  it("wants a reason, and refuses a name for it that says another amount", async () => {
    const own = await seededLedger();
    expect(await adjust(["call_r1", "--usd", "1"], own)).toMatchObject({ exitCode: 2 });
    expect(await adjust(["call_r1", "--usd", "1", "--reason", " "], own)).toMatchObject({ exitCode: 2 });
    await adjust(["call_r1", "--usd", "1", "--reason", "why", "--id", "one"], own);

    const { err, exitCode } = await adjust(["call_r1", "--usd", "2", "--reason", "why", "--id", "one"], own);

    expect(exitCode).toBe(1);
    expect(err).toContain('has a correction "one" of another amount; nothing was changed');
    expect(await costsOf(own)).toBe(1_270_720_000n);
  });

  it("tells the name to ask again with when the ledger does not answer", async () => {
    const gone = createMemoryLedger();
    await seedLedger(gone);
    const apply = async (): Promise<never> => {
      throw new LedgerUnavailableError("the disk is full");
    };
    const failing = new Proxy(gone, {
      get: (target, name) => {
        if (name === "apply") return apply;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });

    const { err, exitCode } = await adjust(["call_r1", "--usd", "1", "--reason", "why"], failing);

    expect(exitCode).toBe(3);
    expect(err).toMatch(
      /the disk is full; whether the correction was recorded is unknown; ask again with --id adj_[0-9a-f-]{36}\n$/,
    );
  });
});

describe("an empty place", () => {
  it.each(["status", "report", "calls", "keys list"])("gives %s a way on, and makes no ledger", async (command) => {
    const { out, exitCode } = await runCli(command);

    expect(exitCode).toBe(0);
    expect(out).toContain("npx purser serve");
  });

  it.each([
    ["calls --json", "[]\n"],
    ["keys list --json", "[]\n"],
  ])("is an empty list for %s", async (command, text) => {
    expect((await runCli(command)).out).toBe(text);
  });

  it("is limits without spend for status --json", async () => {
    const { out } = await runCli("status --json");

    expect(JSON.parse(out)).toMatchObject([
      { limit: "everything-day", spent: "0", left: "50" },
      { limit: "in-flight", spent: 0, left: 8 },
    ]);
  });
});

describe("JSON", () => {
  it("of status, report and calls has the contract's fields, and no others", async () => {
    const json = async (command: string): Promise<unknown> => JSON.parse((await runCli(command, { ledger })).out);
    const fields = (value: unknown): string => Object.keys(value as object).join(" ");

    const [status] = (await json("status --json")) as unknown[];
    const report = (await json("report --since 2026-11-22 --by agent --format json")) as { groups: unknown[] };
    const [call] = (await json("calls --json --limit 1")) as unknown[];

    expect(fields(status)).toBe(
      "limit scope measure amount spent reserved left waiting windowStart windowEnd burnRate runwaySeconds boundToActual boundsPassed",
    );
    expect(fields(report)).toBe("from to by groups total");
    expect(fields(report.groups[0])).toBe("key calls denied costUsd usage");
    expect(fields(call)).toBe(
      "id startedAt endedAt scopes provider model requestedModel attempt providerRequestId status decision reservedUsd costUsd costParts priceIds usage estimated flags error",
    );
  });

  it("of a day's report has the day before beside it", async () => {
    const { out } = await runCli("report --format json", { ledger });

    expect(JSON.parse(out)).toMatchObject({
      from: "2026-11-22T00:00:00Z",
      total: { calls: 14, denied: 2, costUsd: "0.667364" },
      previous: { from: "2026-11-21T00:00:00Z", total: { calls: 12, costUsd: "0.10092" } },
    });
  });

  it("carries a hostile label whole, and lets no terminal act on it", async () => {
    const evil = "a\u001B]0;owned\u0007\u202Eb\u009B2J";
    const other = createMemoryLedger();
    await other.createKey({
      keyId: "abcdefgh",
      secretHash: "00",
      project: evil,
      agent: "a",
      allow: [],
      createdAtMs: NOW_MS,
      expiresAtMs: undefined,
      revokedAtMs: undefined,
    });

    const json = await runCli("keys list --json", { ledger: other });
    const table = await runCli("keys list", { ledger: other, screen: terminal(120) });

    expect(JSON.parse(json.out)).toMatchObject([{ project: evil }]);
    for (const { out } of [json, table]) expect(out.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });
});

describe("report", () => {
  it("says nothing was spent, and how to look elsewhere", async () => {
    const { out } = await runCli("report --day 2026-01-01", { ledger });

    expect(out).toContain("Thursday 2026-01-01 (UTC)\nNo calls; the day before: no calls.\n");
  });

  it("has the same total in every form and by every dimension", async () => {
    const totals = new Set<string>();
    for (const by of ["project", "agent", "user", "model", "task", "session", "key", "tag:team", "agent,model,session"]) {
      const { out } = await runCli(`report --since 2026-11-01 --by ${by} --format json`, { ledger });
      totals.add((JSON.parse(out) as { total: { costUsd: string } }).total.costUsd);
    }
    const csv = (await runCli("report --since 2026-11-01 --by session --format csv", { ledger })).out;
    const costs = csv
      .trim()
      .split("\r\n")
      .slice(1)
      .map((line) => Math.round(Number(line.split(",")[5]) * 1e9));

    expect([...totals]).toEqual(["0.768284"]);
    expect(costs.reduce((sum, cost) => sum + cost, 0)).toBe(768_284_000);
    expect((await runCli("report --since 2026-11-01 --by agent --format md", { ledger })).out).toContain(
      "| **total** | 26 | 2 | 623260 | 12680 | 0.768284 |",
    );
  });

  it.each([
    ["report --by driver", '--by: found "driver"; allowed: project, agent, user, model, task, session, key, tag:NAME'],
    ["report --day soon", '--day: found "soon"; allowed: a date such as 2026-11-22, today or yesterday'],
    ["report --until 2026-11-22", "--until needs --since: from when on?"],
    ["report --since 2026-11-22 --until 2026-11-20", "--until is not after --since: nothing lies between them"],
    ["report --day today --since today", "--day cannot stand beside --since or --until"],
  ])("refuses %s with what is allowed", async (command, message) => {
    expect(await runCli(command, { ledger })).toEqual({ out: "", err: `purser: ${message}\n`, exitCode: 2 });
  });

  it("follows the zone of the configuration", async () => {
    await writeFile("berlin.yaml", `timezone: Europe/Berlin\n${SEED_YAML}`);

    const { out } = await runCli("report --config berlin.yaml", { ledger });

    expect(out).toMatch(/^Sunday 2026-11-22 \(Europe\/Berlin\), until now \(11:04\)\n/);
  });
});

describe("calls", () => {
  it("finds one by its number as by its id", async () => {
    const byId = await runCli("calls --explain call_r1", { ledger });
    const number = /\(number (\d+)\)/.exec(byId.out)?.[1] ?? "";

    expect((await runCli(`calls --explain ${number}`, { ledger })).out).toBe(byId.out);
    expect((await runCli(`calls --explain "#${number}"`, { ledger })).out).toBe(byId.out);
  });

  it.each(["call_nobody", "999999", "2"])("says that %s is no call", async (name) => {
    const { err, exitCode } = await runCli(`calls --explain ${name}`, { ledger });

    expect(exitCode).toBe(1);
    expect(err).toMatch(/^purser: no call "[^"]+" in the ledger/);
  });

  it("lists one session alone, and says so if it is unknown", async () => {
    const listed = JSON.parse((await runCli("calls --session night-shift --json", { ledger })).out) as { id: string }[];

    expect(listed.map(({ id }) => id)).toEqual(["call_r3", "call_r2", "call_r1", "call_r0"]);
    expect((await runCli("calls --session nobody", { ledger })).out).toContain('No call of session "nobody" was recorded.');
  });

  it("explains every call of the ledger, each decided again to the same", async () => {
    for (const { callId } of await ledger.calls({ limit: 1_000 })) {
      const { out, exitCode } = await runCli(`calls --explain ${callId}`, { ledger });

      expect(exitCode).toBe(0);
      expect(out).toContain("decided again from what was stored: the same");
    }
  });

  it("ends with code 1 where a decision comes out otherwise", async () => {
    const [record] = await ledger.calls({ limit: 1, callId: "call_r1" });
    if (record?.decision === undefined) throw new Error("no decision");
    const views = record.decision.admit.views.map((view) => ({ ...view, spent: view.spent + 600_000_000n }));
    const forged = { ...record, decision: { ...record.decision, admit: { ...record.decision.admit, views } } };
    const lying = Object.assign(createMemoryLedger(), { calls: async () => [forged] });

    const { out, err, exitCode } = await runCli("calls --explain call_r1", { ledger: lying });

    expect(exitCode).toBe(1);
    expect(out).toContain("and not admitted");
    expect(err).toMatch(/^purser: decided again, call_r1 comes out otherwise: told to wait instead of admitted\n$/);
  });
});

describe("cost", () => {
  it("is exact, with the row, its source and how sure it is", async () => {
    const { out } = await runCli("cost --model claude-opus-5-5 --input 60000 --output 1536 --json --at 2026-11-22");

    expect(JSON.parse(out)).toMatchObject({
      provider: "anthropic",
      model: "claude-opus-5-5",
      at: "2026-11-22T00:00:00Z",
      costUsd: "0.27072",
      costParts: [{ costUsd: "0.24" }, { costUsd: "0.03072" }],
      price: {
        id: "anthropic/claude-opus-5-5@2026-09-22",
        confidence: "secondary",
        source: expect.stringContaining("platform.claude.com"),
      },
    });
  });

  it("follows the price of the day", async () => {
    const price = async (day: string): Promise<string> =>
      (
        JSON.parse((await runCli(`cost --model claude-sonnet-5-5 --cache-read 1000000 --json --at ${day}`)).out) as {
          costUsd: string;
        }
      ).costUsd;

    expect([await price("2026-10-06"), await price("2026-10-07")]).toEqual(["0.2", "0.1"]);
  });

  it("names the nearest models for an unknown one", async () => {
    const { err, exitCode } = await runCli("cost --model claude-opus-55 --input 1");

    expect(exitCode).toBe(1);
    expect(err).toContain('no price is known for "claude-opus-55"');
    expect(err).toContain("Nearest known: claude-opus-5-5");
  });

  it("takes what has no price for unknown, never for free", async () => {
    const { out, err, exitCode } = await runCli("cost --model claude-mythos-5-2 --cache-read 1000");

    expect({ out, exitCode }).toEqual({ out: "", exitCode: 1 });
    expect(err).toContain("has no known price for cache read. Unknown is not free");
  });

  it("uses the configuration's own prices", async () => {
    await writeFile("own.yaml", "prices: { my-model: { provider: anthropic, inputUsdPerMTok: 3, outputUsdPerMTok: 15 } }\n");

    const { out } = await runCli("cost --model my-model --input 1000 --output 500 --config own.yaml");

    expect(out).toMatch(/Total +\$0\.0105\n/);
    expect(out).toContain("from your own configuration (configured)");
  });

  it("wants something to price", async () => {
    expect(await runCli("cost --model claude-opus-5-5")).toMatchObject({
      exitCode: 2,
      err: expect.stringContaining("nothing to price"),
    });
  });
});

describe("init and check", () => {
  it("writes a file that check understands, and never writes over one", async () => {
    const made = await runCli("init fresh.yaml");
    const checked = await runCli("check fresh.yaml");
    await writeFile("mine.yaml", "timezone: UTC\n");
    const refused = await runCli("init mine.yaml");

    expect(made.exitCode).toBe(0);
    expect(checked).toMatchObject({ exitCode: 0, err: "" });
    expect(checked.out).toContain("• everything-day: all calls together may spend $50.00 a day");
    expect(refused).toEqual({
      out: "",
      err: "purser: mine.yaml is there already and was left as it is; name another file, or move it away first\n",
      exitCode: 1,
    });
    expect(await readFile("mine.yaml", "utf8")).toBe("timezone: UTC\n");
  });

  it("says that a folder is missing", async () => {
    expect(await runCli("init nowhere/purser.yaml")).toMatchObject({
      exitCode: 3,
      err: "purser: nowhere/purser.yaml could not be written (ENOENT)\n",
    });
  });

  it("shows own prices by an example, and warnings", async () => {
    await writeFile(
      "warned.yaml",
      "limits: [{ name: s, per: session, usd: 1 }]\nprices: { claude-opus-5-5: { provider: anthropic, inputUsdPerMTok: 2, outputUsdPerMTok: 10 } }\n",
    );

    const { out, exitCode } = await runCli("check warned.yaml");

    expect(exitCode).toBe(0);
    expect(out).toContain("1,000 input + 500 output tokens on claude-opus-5-5 cost $0.007 (at the known price: $0.014).");
    expect(out).toMatch(/warning: warned\.yaml:1:\d+: .*callers name their session themselves/);
    expect(out).toContain("1 warning.");
  });
});

describe("keys", () => {
  it("shows a secret once, lists the key without it, and revokes it", async () => {
    const keys = createMemoryLedger();
    const made = await runCli("keys create --project support --agent triage --allow user,tag:team --expires 2026-12-31", {
      ledger: keys,
    });
    const secret = /prs_([a-z0-9]{8})_[A-Za-z0-9_-]{43}_[0-9a-f]{8}/.exec(made.out);
    const [, id = ""] = secret ?? [];
    const listed = await runCli("keys list", { ledger: keys });
    const revoked = await runCli(`keys revoke ${id}`, { ledger: keys });
    const again = await runCli(`keys revoke ${id}`, { ledger: keys });
    const [json] = JSON.parse((await runCli("keys list --json", { ledger: keys })).out) as unknown[];

    expect(secret).not.toBeNull();
    expect(listed.out).toContain(id);
    expect(listed.out + JSON.stringify(await keys.keys())).not.toContain(secret?.[0] ?? "prs_");
    expect(revoked.out).toContain(`Key ${id} is revoked`);
    expect(again.out).toContain("was revoked before");
    expect(json).toEqual({
      id,
      project: "support",
      agent: "triage",
      allow: ["user", "tag:team"],
      state: "revoked",
      createdAt: "2026-11-22T10:04:05Z",
      expiresAt: "2027-01-01T00:00:00Z",
      revokedAt: "2026-11-22T10:04:05Z",
    });
  });

  it.each([
    [
      "keys create --project p --agent a --allow admin",
      '--allow: found "admin"; allowed: user, tag:NAME (letters, digits, _ . -)',
    ],
    ["keys create --project p --agent a --expires 2026-01-01", '--expires: "2026-01-01" is over already'],
    ['keys create --project "" --agent a', "--project: project is empty"],
  ])("refuses %s", async (command, message) => {
    expect(await runCli(command, { ledger })).toMatchObject({ exitCode: 2, err: `purser: ${message}\n` });
  });

  it("does not repeat a secret that was pasted for an id", async () => {
    const { err, exitCode } = await runCli("keys revoke prs_abcdefgh_secretsecret_00000000", { ledger });

    expect(exitCode).toBe(1);
    expect(err).not.toContain("secretsecret");
  });
});

describe("status --watch", () => {
  it("prints again only when something changed, where there is no terminal", async () => {
    const watched = await seededLedger();
    let looks = 0;
    // As if another process changed it: what a process writes itself does not count.
    let revision = 1;
    watched.revision = async () => revision;
    const onPause = async (): Promise<void> => {
      looks += 1;
      if (looks === 3) revision += 1;
    };

    const { out } = await runCli("status --watch", { ledger: watched, pauses: 6, onPause });

    expect(out.match(/^Limit /gm)).toHaveLength(2);
    expect(out).not.toContain("\u001B");
  });

  it("prints a line of JSON for each change", async () => {
    const { out } = await runCli("status --watch --json", { ledger, pauses: 2 });

    expect(out.trimEnd().split("\n")).toHaveLength(1);
    expect(JSON.parse(out)).toBeInstanceOf(Array);
  });

  it("draws on a screen of its own, inside its height, and gives the old one back", async () => {
    const { out } = await runCli("status --watch", { ledger, screen: terminal(100, 12), pauses: 1 });

    expect(out.startsWith("\u001B[?1049h")).toBe(true);
    expect(out.endsWith("\u001B[?1049l")).toBe(true);
    expect(out.split("\n").length).toBeLessThanOrEqual(12);
    expect(out).toMatch(/… \d+ more lines/);
  });
});

describe("verify", () => {
  const seeded = async (path: string): Promise<void> => {
    const file = await openSqliteLedger({ path });
    await seedLedger(file);
    await file.close();
  };

  it("says that everything agrees", async () => {
    await seeded("good.db");

    const { out, err, exitCode } = await runCli("verify --ledger good.db");

    expect({ err, exitCode }).toEqual({ err: "", exitCode: 0 });
    expect(out).toMatch(/^good\.db: \d+ entries, 28 calls, \d+ counters: everything agrees\.\n$/);
  });

  it("lists what was changed, and ends with code 1", async () => {
    await seeded("edited.db");
    const db = new Database("edited.db");
    // Somebody with the file in hand is not held by its triggers.
    const triggers = db.prepare("select name from sqlite_schema where type = 'trigger'").pluck().all() as string[];
    for (const name of triggers) db.exec(`drop trigger ${name}`);
    const changed = db.prepare("update entries set at_ms = at_ms + 1 where seq = 5").run();
    db.close();

    const { out, err, exitCode } = await runCli("verify --ledger edited.db");
    const json = await runCli("verify --ledger edited.db --json");

    expect(changed.changes).toBe(1);
    expect(exitCode).toBe(1);
    expect(out).toMatch(/^• edited\.db: .*5/m);
    expect(err).toMatch(/^purser: the ledger is not what was written: \d+ differences?; keep the file, and restore a backup\n$/);
    expect(JSON.parse(json.out)).toMatchObject({
      ledger: "edited.db",
      isCut: false,
      differences: expect.arrayContaining([expect.any(String)]),
    });
  });

  it("works beside a broken configuration, and says where there is no ledger", async () => {
    await writeFile("purser.yaml", "limits: nonsense");

    const { err, exitCode } = await runCli("verify --ledger nowhere.db");
    await writeFile("purser.yaml", SEED_YAML);

    expect(exitCode).toBe(3);
    expect(err).toMatch(/^purser: .*nowhere\.db/);
  });
});

describe("backup", () => {
  it("copies a ledger, says what is in the copy, and overwrites nothing", async () => {
    const file = await openSqliteLedger({ path: "to-copy.db" });
    await seedLedger(file);
    await file.close();

    const done = await runCli("backup the-copy.db --ledger to-copy.db --json");
    const again = await runCli("backup the-copy.db --ledger to-copy.db");

    expect(done.exitCode).toBe(0);
    expect(JSON.parse(done.out)).toMatchObject({ ledger: "to-copy.db", backup: "the-copy.db", callCount: 28 });
    expect(again.exitCode).toBe(2);
    expect(again.err).toContain("nothing is overwritten");
    expect((await runCli("verify --ledger the-copy.db")).exitCode).toBe(0);
  });

  it("of a damaged ledger is not kept, with exit code 1", async () => {
    const file = await openSqliteLedger({ path: "damaged-to-copy.db" });
    await seedLedger(file);
    await file.close();
    new Database("damaged-to-copy.db").exec("update calls set cost_nano_usd = 1 where status = 'settled'").close();

    const { out, err, exitCode } = await runCli("backup never.db --ledger damaged-to-copy.db");

    expect(exitCode).toBe(1);
    expect(out).toContain("its check sum does not fit its columns");
    expect(err).toContain("not kept");
    expect((await runCli("verify --ledger never.db")).exitCode).toBe(3);
  });

  it("where nothing can be made says so, with exit code 3", async () => {
    const { err, exitCode } = await runCli("backup no-such-folder/copy.db --ledger to-copy.db");

    expect(exitCode).toBe(3);
    expect(err).toContain("cannot be made");
  });
});

describe("a call that was settled after it had expired", () => {
  it("is listed and explained as late, and the report has what it turned out to cost", async () => {
    const late = await seededLedger();
    const [expired] = (await late.calls({ limit: 100 })).filter(({ status }) => status === "expired");
    if (expired?.costNanoUsd === undefined) throw new Error("no call of the seed expired");
    const costOf = async (): Promise<bigint> =>
      (await late.report({ fromMs: 0, toMs: Infinity, by: [] })).reduce((sum, { costNanoUsd }) => sum + costNanoUsd, 0n);
    const before = await costOf();

    await late.apply([settleOf(expired.callId, 1_000n, { atMs: NOW_MS })]);

    const row = (await runCli("calls", { ledger: late })).out.split("\n").find((line) => line.includes(expired.callId));
    expect(row).toContain("settled, late");
    const { out } = await runCli(`calls --explain ${expired.callId}`, { ledger: late });
    expect(out).toContain("status    settled, late_settlement");
    expect(out).toContain("settled late: until then it was counted at its bound");
    expect(await costOf()).toBe(before - expired.costNanoUsd + 1_000n);
  });
});
