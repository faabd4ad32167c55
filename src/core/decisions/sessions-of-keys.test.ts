import { expect, it } from "vitest";
import { compileLimits, countersOf, sessionKeyOf } from "./counters.ts";
import type { Limit, Scopes } from "../limits/limit.ts";

const limit: Limit = {
  name: "session",
  per: ["session"],
  where: [],
  measure: "usd",
  amount: 10n,
  window: { kind: "lifetime" },
  cacheReads: "count",
  unboundedReserveNanoUsd: undefined,
  thresholds: [{ amount: 10n, label: "100%", actions: [{ kind: "stop" }] }],
};
const limits = compileLimits({ version: "1", limits: [limit], downgrade: new Map() });
const scopes = (key: string, parentSessions: string[] = []): Scopes => ({
  project: "p",
  agent: "a",
  session: "main",
  parentSessions,
  user: "default",
  key,
  task: "default",
  tags: {},
});
const keysOf = (of: Scopes): string[] => countersOf(limits, of, "m").map(({ scopeKey }) => scopeKey);

it("keeps sessions of the same name apart where different keys name them, parents included", () => {
  const [own, parent] = keysOf(scopes("key-a", ["victim"]));

  expect(keysOf(scopes("key-b"))).not.toContain(own);
  expect(keysOf({ ...scopes("key-c"), session: "victim" })).not.toContain(parent);
  expect(sessionKeyOf(scopes("key-a"))).not.toBe(sessionKeyOf(scopes("key-b")));
});

it("shows people the session's own name", () => {
  expect(countersOf(limits, scopes("key-a"), "m").map(({ scope }) => scope)).toEqual([{ session: "main" }]);
});

it("lets callers without a key share what they name alike", () => {
  expect(keysOf(scopes("default"))).toEqual(["session=main"]);
});

it("is not fooled by a session named like the mark of a key", () => {
  expect(keysOf({ ...scopes("default"), session: "main&~key=key-a" })).not.toEqual(keysOf(scopes("key-a")));
});
