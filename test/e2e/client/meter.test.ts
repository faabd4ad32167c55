/**
 * Goal: any API that is paid per call stands under the same limits, in the same ledger, as calls of a model: what it can cost is held before
 * it runs, what it cost is settled after, to the nano-dollar, whatever the function does.
 */
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { createPurser, LimitReachedError, type LimitObject, type Purser } from "../../../src/client/entry.ts";
import { verifySqliteLedger } from "../../../src/ledger/sqlite/verify.ts";
import { messageInit, startClientBench, sumOf, type ClientBenchOptions } from "./harness.ts";

const ENTRY = fileURLToPath(new URL("../../../src/client/entry.ts", import.meta.url));
const PRICES = { search: { usdPerUnit: "0.004999999" }, gift: { usdPerUnit: 0 } };

const start = (limits?: readonly LimitObject[], more: ClientBenchOptions = {}) =>
  startClientBench({ ...(limits === undefined ? {} : { limits }), config: { prices: PRICES }, ...more });

/** A function that waits until it is told. */
function held(): { fn: () => Promise<string>; release: () => void; readonly started: number } {
  const { promise, resolve } = Promise.withResolvers<string>();
  let started = 0;
  return {
    fn: () => {
      started += 1;
      return promise;
    },
    release: () => resolve("done"),
    get started() {
      return started;
    },
  };
}

const until = async (isTrue: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await isTrue())) await new Promise((resolve) => setImmediate(resolve));
};

async function refusalOf(call: Promise<unknown>): Promise<LimitReachedError> {
  const error: unknown = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof LimitReachedError) return error;
  throw new Error("it was not refused by a limit", { cause: error });
}

describe("purser.meter", () => {
  it("holds the price of all units before the function runs, and settles what it says it used", async () => {
    const { purser, calls } = await start([{ name: "day", per: "all", usd: 1, every: "day" }]);

    const answer = await purser.meter("search", { units: 3 }, async ({ callId, used }) => {
      const [status] = await purser.status();
      expect(status).toMatchObject({ spent: "0", reserved: "0.014999997" });
      used({ units: 2 });
      return callId;
    });

    const [call] = await calls();
    expect(call).toMatchObject({ callId: answer, status: "settled", costNanoUsd: 9_999_998n });
    expect(call?.facts).toMatchObject({ provider: "search", requestedModel: "search" });
    expect(call?.result).toMatchObject({ isEstimated: false, flags: [], costParts: [{ meter: "unit", quantity: 2 }] });
    expect(await purser.status()).toMatchObject([{ spent: "0.009999998", reserved: "0" }]);
  });

  it("takes money where nobody priced a unit, as it is written; what is said last is what it used", async () => {
    const { purser, calls } = await start();

    await purser.meter("images", { usd: "0.000000003" }, () => undefined);
    await purser.meter("images", { usd: 0.1 }, ({ used }) => {
      used({ usd: 5n });
      used({ usd: "0.040" });
    });

    expect((await calls()).map(({ costNanoUsd }) => costNanoUsd)).toEqual([3n, 40_000_000n]);
  });

  it("refuses what is no amount, no deadline or no name, and nothing runs", async () => {
    const { purser, calls } = await start();
    const wrong: [name: string, options: object, told: string][] = [
      // A sum of floats, and what a float prints with an exponent.
      ["search", { usd: 0.1 + 0.2 }, "usd is 0.30000000000000004"],
      ["search", { usd: 1e-7 }, "usd is 1e-7"],
      ["search", { usd: "-1" }, "usd is -1"],
      ["search", { units: 1.5 }, "units is 1.5"],
      ["search", {}, "exactly one of units and usd"],
      ["search", { units: 1, usd: 1 }, "exactly one of units and usd"],
      ["search", { units: 1, deadlineMs: Number.NaN }, "deadlineMs is NaN"],
      ["", { units: 1 }, 'name is ""'],
      ["anthropic", { units: 1 }, 'name is "anthropic"'],
      ["a\nb", { units: 1 }, "control character"],
      ["x".repeat(201), { units: 1 }, "201 characters"],
    ];
    const { fn, started } = held();

    for (const [name, options, told] of wrong) {
      await expect(purser.meter(name, options as { units: number }, fn)).rejects.toThrow(told);
    }
    expect([started, await calls()]).toEqual([0, []]);
  });

  it("throws the typed decision when a limit says no, without running the function", async () => {
    const { purser, calls } = await start([{ name: "day", per: "agent", usd: "0.01", every: "day" }]);
    const { fn, started } = held();
    const denied: unknown[] = [];
    purser.on("decision", (event) => denied.push(event.denied?.code));

    await purser.run({ agent: "a" }, () => purser.meter("search", { units: 2 }, () => undefined));
    const error = await refusalOf(purser.run({ agent: "a" }, () => purser.meter("search", { units: 1 }, fn)));

    expect(error).toMatchObject({
      code: "limit_reached",
      limit: "day",
      scope: { agent: "a" },
      measure: "usd",
      isRetryable: false,
    });
    expect(error.resetsAt?.getTime()).toBeGreaterThan(Date.now());
    expect([started, denied]).toEqual([0, [undefined, "limit_reached"]]);
    expect((await calls()).map(({ status }) => status)).toEqual(["settled", "denied"]);
  });

  it("says what helps where one call is more than the limit ever allows", async () => {
    const { purser } = await start([{ name: "day", per: "all", usd: "0.01", every: "day" }]);

    const error = await refusalOf(purser.meter("search", { units: 3 }, () => undefined));

    expect(error.code).toBe("limit_too_small");
    expect(error.message).toContain("waiting does not help: ask for less at once or ask the operator to raise the limit.");
  });

  it("is refused without a price under a limit of money, and free where that is written", async () => {
    const { purser, calls } = await start([{ name: "day", per: "all", usd: 1, every: "day" }]);

    const error = await refusalOf(purser.meter("speech", { units: 1 }, () => undefined));
    await purser.meter("gift", { units: 1_000 }, () => undefined);

    expect([error.code, (await calls())[1]?.costNanoUsd]).toEqual(["unpriced_model", 0n]);
  });
});

describe("a function that throws", () => {
  const LIMITS: LimitObject[] = [
    { name: "money", per: "all", usd: 1, every: "day" },
    { name: "often", per: "all", requests: 10, every: "day" },
  ];
  const spentOf = async (purser: Purser) => (await purser.status()).map(({ spent, reserved }) => [spent, reserved]);

  it("is counted at all that was asked for: nobody can see whether the other side counted it", async () => {
    const { purser, calls } = await start(LIMITS);
    const failure = new Error("connection reset");

    await expect(purser.meter("search", { units: 2 }, () => Promise.reject(failure))).rejects.toBe(failure);

    const [call] = await calls();
    expect(call).toMatchObject({ status: "settled", costNanoUsd: 9_999_998n, result: { isEstimated: true, flags: ["unknown"] } });
    expect(await spentOf(purser)).toEqual([
      ["0.009999998", "0"],
      [1, 0],
    ]);
  });

  it("costs nothing and counts for nothing if it says that nothing was sent", async () => {
    const { purser, calls } = await start(LIMITS);

    const call = purser.meter("search", { units: 2 }, ({ notSent }) => {
      notSent();
      throw new Error("no route");
    });

    await expect(call).rejects.toThrow("no route");
    expect((await calls()).map(({ status }) => status)).toEqual(["voided"]);
    expect(await spentOf(purser)).toEqual([
      ["0", "0"],
      [0, 0],
    ]);
  });

  it("is counted at what it said before", async () => {
    const { purser, calls } = await start(LIMITS);

    const call = purser.meter("search", { units: 2 }, ({ used }) => {
      used({ units: 0 });
      throw new Error("the API answered 503");
    });

    await expect(call).rejects.toThrow("503");
    expect(await calls()).toMatchObject([{ status: "settled", costNanoUsd: 0n, result: { isEstimated: false } }]);
  });
});

describe("many at once", () => {
  it("runs of fifty as many as the limit has room for, and what they cost is exact", async () => {
    const { purser, calls } = await start([{ name: "life", per: "all", usd: "0.035" }]);
    const { fn, release } = held();
    let running = 0;
    const outcomes = Array.from({ length: 50 }, () =>
      purser
        .meter("search", { units: 1 }, async () => {
          running += 1;
          return fn();
        })
        .then(
          () => "ran",
          (error: unknown) => LimitReachedError.from(error)?.code,
        ),
    );
    // All that have room run, and nobody is refused for what those hold.
    await until(() => running === 7);
    expect(await purser.status()).toMatchObject([{ spent: "0", reserved: "0.034999993" }]);
    release();

    const told = await Promise.all(outcomes);

    expect(told.filter((each) => each === "ran").length).toBe(7);
    expect(told.filter((each) => each === "limit_reached").length).toBe(43);
    expect(sumOf(await calls())).toBe(34_999_993n);
    expect(await purser.status()).toMatchObject([{ spent: "0.034999993", reserved: "0" }]);
  });

  it("waits for what others hold no longer than its deadline or its caller", async () => {
    const { purser, calls } = await start([{ name: "life", per: "all", usd: "0.005" }]);
    const { fn, release } = held();
    const first = purser.meter("search", { units: 1 }, fn);
    await until(async () => (await calls()).length === 1);
    const leaving = new AbortController();

    const late = refusalOf(purser.meter("search", { units: 1, deadlineMs: 30 }, () => undefined));
    const left = purser.meter("search", { units: 1, signal: leaving.signal }, () => undefined);
    expect((await late).code).toBe("held_by_calls_in_flight");
    leaving.abort(new Error("the user went home"));

    await expect(left).rejects.toThrow("the user went home");
    release();
    expect(await first).toBe("done");
    expect((await calls()).map(({ status }) => status)).toEqual(["settled", "denied"]);
  });
});

describe("in its surroundings", () => {
  it("counts for the scopes around it, beside the calls of models", async () => {
    const limits = [{ name: "sessions", per: "session", requests: 2, every: "day" }];
    const { purser, url, calls } = await start(limits);
    const searchIn = (session: string) => purser.run({ session }, () => purser.meter("search", { units: 1 }, () => undefined));

    await purser.run({ session: "outer", agent: "a" }, async () => {
      await (await purser.fetch(`${url}/v1/messages`, messageInit())).text();
      await searchIn("inner");
      expect((await refusalOf(searchIn("inner"))).scope).toEqual({ session: "outer" });
    });
    await purser.with({ session: "other" }).meter("search", { units: 1 }, () => undefined);

    const told = (await calls()).map(({ facts: { provider, scopes } }) => [provider, scopes.session, scopes.agent]);
    expect(told).toEqual([
      ["anthropic", "outer", "a"],
      ["search", "inner", "a"],
      ["search", "inner", "a"],
      ["search", "other", "default"],
    ]);
  });

  it("is cut when Purser closes, told so, and counted at all that was asked for", async () => {
    const { purser, calls } = await start();
    const reasons: unknown[] = [];
    const running = purser.meter("search", { units: 2 }, async ({ signal }) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      reasons.push(signal.reason);
      throw signal.reason;
    });
    running.catch(() => undefined);
    await until(async () => (await calls()).length === 1);

    await purser.close({ deadlineMs: 0 });

    await expect(running).rejects.toThrow("Purser was closed");
    expect(reasons.length).toBe(1);
    expect(await calls()).toMatchObject([{ status: "settled", costNanoUsd: 9_999_998n, result: { flags: ["unknown"] } }]);
  });

  it("is counted at its bound by the next process if its own is killed in the middle", async () => {
    const bench = await start();
    const file = join(bench.ledgerPath, "..", "agent.mjs");
    const config = { limits: [{ name: "day", per: "all", usd: 1, every: "day" }], prices: PRICES };
    await writeFile(
      file,
      `import { createPurser } from ${JSON.stringify(ENTRY)};
       const purser = await createPurser({ config: ${JSON.stringify(config)}, ledger: ${JSON.stringify(bench.ledgerPath)} });
       await purser.meter("search", { units: 2 }, () => process.kill(process.pid, "SIGKILL"));`,
    );
    const signal = await new Promise((resolve) => execFile(process.execPath, [file], (error) => resolve(error?.signal)));
    expect(signal).toBe("SIGKILL");
    // Held, or found already by the Purser that runs beside it: it looks every few seconds.
    expect(await bench.calls()).toMatchObject([{ status: expect.stringMatching(/^(reserved|expired)$/) as string }]);

    const next = await createPurser({ config, ledger: bench.ledgerPath });
    try {
      expect(await bench.calls()).toMatchObject([{ status: "expired", costNanoUsd: 9_999_998n }]);
      expect(await next.status()).toMatchObject([{ spent: "0.009999998", reserved: "0" }]);
    } finally {
      await next.close();
    }
    expect(verifySqliteLedger(bench.ledgerPath).differences).toEqual([]);
  });
});
