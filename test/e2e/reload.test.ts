/**
 * Goal: the configuration changes in the middle of traffic and no count is lost: what was spent stays spent under whatever limit now
 * looks at it, a file that cannot be used changes nothing and is told, and whoever waits is decided afresh.
 * Method: a real file that is written as editors and deployments write it.
 */
import { mkdtemp, rename, rm, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { LoadConfigResult } from "../../src/config/load-config.ts";
import { startBench, type Bench, type BenchOptions } from "./harness.ts";
import { ask, begin, holdAnswers, messageOf, readAnswer, until } from "./http.ts";

const ROOMY = "limits: [{ name: roomy, per: all, usd: 1_000, every: month }]\n";

interface FileBench extends Bench {
  path: string;
  /** What became of each change that was noticed. */
  reloads: LoadConfigResult[];
  /** Resolves with what became of the change that this makes. */
  change(how: (path: string) => Promise<unknown>): Promise<LoadConfigResult>;
  write(yaml: string): Promise<LoadConfigResult>;
}

async function startWithFile(yaml: string, options: BenchOptions = {}): Promise<FileBench> {
  const folder = await mkdtemp(join(tmpdir(), "purser-reload-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, "purser.yaml");
  await writeFile(path, yaml);
  const reloads: LoadConfigResult[] = [];
  const onReload = (result: LoadConfigResult): void => void reloads.push(result);
  const bench = await startBench({ yaml, ...options, gateway: { configPath: path, onReload, ...options.gateway } });
  const change = async (how: (path: string) => Promise<unknown>): Promise<LoadConfigResult> => {
    const before = reloads.length;
    await how(path);
    await until(() => reloads.length > before);
    const last = reloads.at(-1);
    if (last === undefined) throw new Error("nothing was reloaded");
    return last;
  };
  return Object.assign(bench, { path, reloads, change, write: (text: string) => change(() => writeFile(path, text)) });
}

const statuses = async (bench: Bench, count: number): Promise<number[]> => {
  const found: number[] = [];
  for (let calls = 0; calls < count; calls += 1) found.push((await ask(bench.url)).status);
  return found;
};

describe("a changed file", () => {
  it("is in force for the next call, however it was written: in place, renamed over, after it was gone", async () => {
    const bench = await startWithFile(ROOMY);
    const limit = (name: string): string => `limits: [{ name: ${name}, per: all, usd: 1_000, every: month }]\n`;
    const names = (): string[] => bench.gateway.config().limits.map(({ name }) => name);

    expect((await bench.write(limit("in-place"))).outcome).toBe("read");
    expect(names()).toEqual(["in-place"]);
    await bench.change(async (path) => {
      await writeFile(`${path}.new`, limit("renamed"));
      await rename(`${path}.new`, path);
    });
    expect(names()).toEqual(["renamed"]);
    expect((await bench.change((path) => unlink(path))).outcome).toBe("invalid");
    expect(names()).toEqual(["renamed"]);
    await bench.change((path) => writeFile(path, limit("back")));
    expect(names()).toEqual(["back"]);
    expect((await ask(bench.url)).status).toBe(200);
  });

  it.each([
    ["broken YAML", "limits: [{ name: a, per: all\n", /purser\.yaml:\d+:\d+: /],
    [
      "a value that is none",
      "limits:\n  - name: a\n    per: all\n    usd: lots\n",
      /purser\.yaml:4:10: limits\[0\]\.usd: found "lots"; allowed: /,
    ],
    ["an unknown key", "limitz: []\n", /purser\.yaml:1:1: limitz: found the unknown key "limitz"; allowed: .*limits/],
    ["what is not enforced yet", "limits: [{ name: a, per: all, sessions: 5, every: day }]\n", /sessions.*not enforced/],
    ["bytes that are no text", Buffer.from([0xff, 0xfe, 0x00]).toString("latin1"), /purser\.yaml/],
  ])("that holds a mistake (%s) changes nothing, and is told with its place", async (_name, yaml, message) => {
    const bench = await startWithFile("limits: [{ name: two, per: all, requests: 2, every: month }]\n");
    await ask(bench.url);

    const result = await bench.change((path) => writeFile(path, yaml, "latin1"));

    expect(result.outcome).toBe("invalid");
    expect(result.outcome === "invalid" ? result.problems.map((problem) => problem.message).join("\n") : "").toMatch(message);
    expect(await statuses(bench, 2)).toEqual([200, 402]);
    expect((await bench.write(ROOMY)).outcome).toBe("read");
    expect((await ask(bench.url)).status).toBe(200);
  });

  it("that cannot be put in force while the ledger is gone is tried again, and the old one stays till then", async () => {
    const bench = await startWithFile(ROOMY);
    const { ledger } = bench.gateway;
    const configure = ledger.configure.bind(ledger);
    let failures = 0;
    ledger.configure = async (rules) => {
      if ((failures += 1) > 1) return configure(rules);
      throw Object.assign(new Error("the disk is full"), { code: "ledger_unavailable" });
    };

    const result = await bench.write("limits: [{ name: none, per: all, requests: 0, every: month }]\n");

    expect(result.outcome).toBe("read");
    expect(bench.warnings).toContainEqual({ event: "reload_failed", details: { reason: "the disk is full" } });
    expect((await ask(bench.url)).status).toBe(402);
  });

  it("that names another address to listen on or to call says that it takes a restart", async () => {
    const bench = await startWithFile(ROOMY, {
      env: { PURSER_PORT: "" },
      yaml: `${ROOMY}server: { port: 0 }\n`,
    });

    await bench.write(`${ROOMY}server: { port: 4999 }\n`);

    expect(bench.warnings).toContainEqual({ event: "restart_needed", details: { settings: "server.port" } });
    expect((await ask(bench.url)).status).toBe(200);
  });

  it("that only says to listen on loopback does not open a gateway that other machines reach", async () => {
    const bench = await startWithFile(ROOMY, {
      yaml: `${ROOMY}server: { host: 0.0.0.0 }\n`,
      env: { PURSER_HOST: "" },
    });
    const url = bench.url.replace("0.0.0.0", "127.0.0.1");
    expect((await ask(url)).status).toBe(401);

    await bench.write(`${ROOMY}server: { host: 127.0.0.1 }\n`);

    expect((await ask(url)).status).toBe(401);
    await bench.write(`${ROOMY}server: { host: 0.0.0.0, passthroughKeys: allow }\n`);
    expect((await ask(url)).status).toBe(200);
  });
});

describe("a limit", () => {
  it("that is new counts what was spent before it, in its own measure and scope", async () => {
    const bench = await startWithFile(ROOMY);
    const by = (agent: string) => ask(bench.url, { headers: { "x-purser-agent": agent } });
    for (const agent of ["a", "a", "a", "b"]) await by(agent);

    await bench.write("limits: [{ name: four, per: agent, requests: 4, every: day }]\n");

    expect(
      [await by("a"), await by("a"), await by("b"), await by("b"), await by("b"), await by("b")].map(({ status }) => status),
    ).toEqual([200, 402, 200, 200, 200, 402]);
  });

  it("that is new finds calls in flight, and counts what they cost when they end", async () => {
    const bench = await startWithFile(ROOMY);
    const held = holdAnswers(bench.simulator, { outputTokens: 200 });
    const running = ask(bench.url);
    await until(() => held.count === 1);

    await bench.write("limits: [{ name: out, per: all, outputTokens: 500, every: day }]\n");
    held.release();
    expect((await running).status).toBe(200);

    bench.simulator.always(undefined);
    const tooLarge = await ask(bench.url, { body: messageOf({ max_tokens: 301 }) });
    expect(tooLarge.error?.details).toMatchObject({ code: "limit_reached", spent: 200, reserved: 0 });
    expect((await ask(bench.url, { body: messageOf({ max_tokens: 300 }) })).status).toBe(200);
  });

  it("that was renamed, raised or lowered keeps its count", async () => {
    const bench = await startWithFile("limits: [{ name: three, per: all, requests: 3, every: month }]\n");
    expect(await statuses(bench, 4)).toEqual([200, 200, 200, 402]);

    await bench.write("limits: [{ name: five, per: all, requests: 5, every: month, at: { 50%: alert, 100%: stop } }]\n");
    expect(await statuses(bench, 3)).toEqual([200, 200, 402]);

    await bench.write("limits: [{ name: two, per: all, requests: 2, every: month }]\n");
    const { error } = await ask(bench.url);
    expect(error?.details).toMatchObject({ code: "limit_reached", limit: "two", amount: 2, spent: 5 });
  });

  it("that was taken out and put back again has missed nothing", async () => {
    const three = "limits: [{ name: three, per: all, requests: 3, every: month }]\n";
    const bench = await startWithFile(three);
    expect(await statuses(bench, 1)).toEqual([200]);
    await bench.write(ROOMY);
    expect(await statuses(bench, 1)).toEqual([200]);

    await bench.write(three);

    expect(await statuses(bench, 2)).toEqual([200, 402]);
  });
});

describe("while calls are on their way", () => {
  it("one that waits is decided afresh under the new limits", async () => {
    const one = "limits: [{ name: at-once, per: all, concurrency: 1 }]\n";
    const bench = await startWithFile(one);
    const held = holdAnswers(bench.simulator);
    const asked = [ask(bench.url), ask(bench.url)];
    await until(() => held.count === 1 && bench.gateway.engine.waitingOn("all concurrency") === 1);

    await bench.write(one.replace("1 }", "2 }"));
    await until(() => held.count === 2);
    held.release(2);

    expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([200, 200]);
  });

  it("a stream goes on and is settled, whatever the new limits say", async () => {
    const bench = await startWithFile(ROOMY);
    const held = holdAnswers(bench.simulator);
    const response = await Promise.race([begin(bench.url, { body: messageOf({ stream: true }) }), until(() => held.count === 1)]);
    await bench.write("limits: [{ name: none, per: all, requests: 0, every: month }]\n");

    bench.simulator.always(undefined);
    const releasing = setInterval(() => held.release(), 1);
    await bench.simulator.idle();
    clearInterval(releasing);
    if (response !== undefined) await readAnswer(response);

    await until(async () => (await bench.calls())[0]?.status === "settled");
    expect((await bench.calls())[0]).toMatchObject({ costNanoUsd: bench.simulator.bill.totalNanoUsd });
    expect((await ask(bench.url)).status).toBe(402);
  });

  it("a call is settled at the prices it was admitted at", async () => {
    const price = (usd: number): string =>
      `${ROOMY}prices: { claude-sonnet-5-5: { inputUsdPerMTok: ${usd}, outputUsdPerMTok: ${usd}, source: contract } }\n`;
    const bench = await startWithFile(price(2));
    const held = holdAnswers(bench.simulator, { outputTokens: 100 });
    const running = ask(bench.url);
    await until(() => held.count === 1);

    await bench.write(price(20));
    held.release();
    await running;
    const after = ask(bench.url);
    await until(() => held.count === 1);
    held.release();
    await after;

    const [before, later] = await bench.calls();
    const tokens = BigInt((before?.result?.tokens.uncachedInputTokens ?? 0) + 100);
    expect(before?.costNanoUsd).toBe(tokens * 2_000n);
    expect(before?.costNanoUsd).toBeLessThanOrEqual(before?.reservedNanoUsd ?? 0n);
    expect(later?.costNanoUsd).toBe(tokens * 20_000n);
  });

  it("in heavy traffic no count is lost and none is invented: ledger, bill and every limit agree", async () => {
    const bench = await startWithFile(ROOMY);
    const files = [
      "limits: [{ name: agents, per: agent, usd: 50, every: day }]\n",
      "limits: [{ name: sessions, per: session, outputTokens: 1_000_000 }, { name: everything, per: all, usd: 100, every: month }]\n",
      "limits: [{ name: models, per: model, tokens: 90_000_000, every: week }, { name: few, per: all, concurrency: 6 }]\n",
      ROOMY,
    ];
    const traffic = { isOver: false };
    const agents = Array.from({ length: 12 }, async (_, agent) => {
      for (let calls = 0; !traffic.isOver; calls += 1) {
        await ask(bench.url, { headers: { "x-purser-agent": `a${agent % 3}`, "x-purser-session": `s${calls % 5}` } });
      }
    });

    for (const file of files) await bench.write(file);
    traffic.isOver = true;
    await Promise.all(agents);

    const calls = await bench.calls();
    const cost = calls.reduce((sum, { costNanoUsd }) => sum + (costNanoUsd ?? 0n), 0n);
    expect(cost).toBe(bench.simulator.bill.totalNanoUsd);
    expect(calls).toHaveLength(bench.simulator.requests.length);
    // A limit that fits exactly one more call than were ever made.
    await bench.write(`limits: [{ name: exact, per: all, requests: ${calls.length + 1}, every: month }]\n`);
    expect(await statuses(bench, 2)).toEqual([200, 402]);
  });
});
