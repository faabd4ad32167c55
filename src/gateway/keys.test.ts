import { describe, expect, test } from "vitest";
import { createFakeClock, START_MS } from "../engine/engine.fixture.ts";
import { createMemoryLedger } from "../ledger/memory/memory-ledger.ts";
import { createKeyFinder } from "./keys.ts";
import { hashSecret } from "../exchange/system.ts";
import { createVirtualKeySecret } from "./virtual-key.ts";

async function start(more: { expiresAtMs?: number } = {}) {
  const ledger = createMemoryLedger();
  const clock = createFakeClock();
  const { keyId, secret } = createVirtualKeySecret();
  await ledger.createKey({
    keyId,
    secretHash: hashSecret(secret),
    project: "p",
    agent: "a",
    allow: ["user"],
    createdAtMs: START_MS,
    expiresAtMs: more.expiresAtMs,
    revokedAtMs: undefined,
  });
  const find = createKeyFinder(ledger, clock);
  return { ledger, clock, keyId, secret, find };
}

const problemOf = (found: Awaited<ReturnType<ReturnType<typeof createKeyFinder>>>): string =>
  found.outcome === "refused" ? found.problem : "found";

describe("a virtual key", () => {
  test("is found with what it binds", async () => {
    const { find, secret, keyId } = await start();

    expect(await find(secret)).toEqual({
      outcome: "found",
      caller: { keyId, bound: { project: "p", agent: "a", allow: ["user"] } },
    });
  });

  test("that is mistyped is told from one that nobody knows", async () => {
    const { find, secret } = await start();

    expect(problemOf(await find(secret.slice(0, -1)))).toContain("cut or mistyped");
    expect(problemOf(await find(createVirtualKeySecret().secret))).toContain("not known");
  });

  test("with the id of a known one and another secret is not known", async () => {
    const { find, keyId } = await start();
    for (let tries = 0; tries < 3; tries += 1) {
      const other = createVirtualKeySecret();
      expect(problemOf(await find(other.secret.replace(other.keyId, keyId)))).not.toBe("found");
    }
  });

  test("that was revoked stops within a second", async () => {
    const { find, secret, keyId, ledger, clock } = await start();
    await find(secret);
    await ledger.revokeKey({ keyId, atMs: START_MS });
    await clock.advance(1_000);

    expect(problemOf(await find(secret))).toBe(`the virtual key ${keyId} was revoked`);
  });

  test("that was made just now is known within a second", async () => {
    const { find, ledger, clock } = await start();
    const { keyId, secret } = createVirtualKeySecret();
    await find(secret);
    await ledger.createKey({
      keyId,
      secretHash: hashSecret(secret),
      project: "p",
      agent: "a",
      allow: [],
      createdAtMs: START_MS,
      expiresAtMs: undefined,
      revokedAtMs: undefined,
    });
    await clock.advance(1_000);

    expect(problemOf(await find(secret))).toBe("found");
  });

  test("ends at its hour", async () => {
    const { find, secret, keyId, clock } = await start({ expiresAtMs: START_MS + 5_000 });
    await clock.advance(4_999);
    expect(problemOf(await find(secret))).toBe("found");
    await clock.advance(1);

    expect(problemOf(await find(secret))).toBe(`the virtual key ${keyId} has expired`);
  });
});
