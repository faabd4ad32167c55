import { describe, expect, test } from "vitest";
import type { Config } from "./config.ts";
import { readConfig } from "./config.ts";
import { VARIABLES } from "./environment.ts";

function read(text: string | undefined, env: Record<string, string>): Config {
  const result = readConfig({ text, fileName: "purser.yaml", env });
  if (result.outcome === "invalid") throw new Error(result.problems.map(({ message }) => message).join("\n"));
  return result.config;
}

function messages(text: string | undefined, env: Record<string, string>): string[] {
  const result = readConfig({ text, fileName: "purser.yaml", env });
  return result.outcome === "read" ? [] : result.problems.map(({ message }) => message);
}

const FILE = "timezone: Europe/Berlin\nserver: { port: 5000, adminPort: 5001 }\nupstreams: { anthropic: https://file }\n";

describe("a variable", () => {
  test("wins over the file, and leaves the settings beside it", () => {
    const config = read(FILE, {
      PURSER_PORT: "6000",
      PURSER_ANTHROPIC_URL: "http://localhost:1234/",
      PURSER_TIMEZONE: "Asia/Tokyo",
    });

    expect(config.server).toMatchObject({ port: 6000, adminPort: 5001 });
    expect(config.upstreams).toEqual({ anthropic: "http://localhost:1234", openai: "https://api.openai.com" });
    expect(config.timeZone).toBe("Asia/Tokyo");
  });

  test("says nothing if it is empty", () => {
    expect(read(FILE, { PURSER_PORT: "", PURSER_TIMEZONE: " ", PURSER_LIMITS: "" })).toEqual(read(FILE, {}));
  });

  test.each([
    ["PURSER_TIMEZONE", "UTC", (config: Config) => config.timeZone],
    ["PURSER_WEEKSTART", "sunday", (config: Config) => (config.weekStart === 7 ? "sunday" : "")],
    ["PURSER_ONLEDGERUNAVAILABLE", "allow", (config: Config) => config.onLedgerUnavailable],
    ["PURSER_ONUNPRICEDMODEL", "dearest", (config: Config) => config.onUnpricedModel],
    ["PURSER_ONCLIENTABORT", "drain", (config: Config) => config.onClientAbort],
    ["PURSER_HOST", "0.0.0.0", (config: Config) => config.server.host],
    ["PURSER_SERVER_HOST", "0.0.0.0", (config: Config) => config.server.host],
    ["PURSER_PORT", "7000", (config: Config) => String(config.server.port)],
    ["PURSER_ADMIN_HOST", "::1", (config: Config) => config.server.adminHost],
    ["PURSER_ADMIN_PORT", "7001", (config: Config) => String(config.server.adminPort)],
    ["PURSER_SERVER_BODYBYTESMAX", "2000000", (config: Config) => String(config.server.bodyBytesMax)],
    ["PURSER_SERVER_PASSTHROUGHKEYS", "allow", (config: Config) => config.server.passthroughKeys],
    ["PURSER_LEDGER_KEEPDAYS", "400", (config: Config) => String(config.ledger.keepDays)],
    ["PURSER_ANTHROPIC_URL", "http://localhost:1", (config: Config) => config.upstreams.anthropic],
    ["PURSER_OPENAI_URL", "http://localhost:2", (config: Config) => config.upstreams.openai],
    ["PURSER_BUDGET_PER_SESSION_TOKENS", "77", (config: Config) => String(config.limits[0]?.amount)],
    ["PURSER_LEDGER", "sqlite:/tmp/x.db", (config: Config) => `sqlite:${config.ledger.path}`],
    ["PURSER_LOG_LEVEL", "debug", (config: Config) => config.logLevel],
  ])("%s is read", (name, value, pick) => {
    expect(pick(read(undefined, { [name]: value }))).toBe(value);
  });

  test("stands for every scalar setting, by its path in capitals", () => {
    const names = VARIABLES.map(({ name }) => name);

    expect(VARIABLES.filter(({ name, path }) => name === `PURSER_${path.replaceAll(".", "_").toUpperCase()}`).length).toBe(
      new Set(VARIABLES.map(({ path }) => path)).size,
    );
    expect(new Set(names).size).toBe(names.length);
  });

  test.each([
    [{ PURSER_PORT: "abc" }, 'PURSER_PORT (server.port): found "abc"; allowed: a whole number from 0 to 65_535'],
    [
      { PURSER_SERVER_PORT: "1", PURSER_PORT: "2" },
      'PURSER_SERVER_PORT (server.port): found "1"; allowed: the same as PURSER_PORT',
    ],
    [{ PURSER_TIMEZONE: "Mars" }, 'PURSER_TIMEZONE (timezone): found "Mars"; allowed: an IANA time zone'],
    [{ PURSER_LEDGER: "postgres://a:b@c/d" }, "PURSER_LEDGER: found a PostgreSQL address; allowed: a path, or sqlite:PATH"],
    [{ PURSER_LEDGER: "mysql://a:b@c/d" }, "PURSER_LEDGER: found an address of the kind mysql:"],
    [{ PURSER_LOG_LEVEL: "loud" }, 'PURSER_LOG_LEVEL: found "loud"; allowed: debug, info, warn, error, silent'],
    [{ PURSER_LIMITS: "- { name: a, per: all, usd: five }" }, 'PURSER_LIMITS:1:29: limits[0].usd: found "five"'],
    [{ PURSER_LIMITS: "[{" }, "PURSER_LIMITS:1:3: limits: found broken YAML"],
  ])("%j is told by its name and value", (env, told) => {
    const [message] = messages(undefined, env);

    expect(message).toContain(told);
  });

  test("that is misspelt is told", () => {
    const result = readConfig({
      text: undefined,
      fileName: "purser.yaml",
      env: { PURSER_SERVER_BODY_BYTES_MAX: "5", PATH: "/bin" },
    });

    expect(result.outcome === "read" && result.warnings.map(({ message }) => message)).toEqual([
      "PURSER_SERVER_BODY_BYTES_MAX: no setting has this variable; did you mean PURSER_SERVER_BODYBYTESMAX?",
    ]);
  });
});

describe("PURSER_LIMITS", () => {
  test("replaces the limits of the file", () => {
    const text = "limits: [{ name: a, per: all, usd: 5 }]\n";
    const config = read(text, { PURSER_LIMITS: '[{"name":"b","per":"agent","tokens":7}]' });

    expect(config.limits.map(({ name }) => name)).toEqual(["b"]);
  });

  test("replaces the built-in limit", () => {
    expect(read(undefined, { PURSER_LIMITS: "- name: b\n  per: all\n  usd: 1\n" }).isDefaultLimit).toBe(false);
  });
});
