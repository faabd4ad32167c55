import { describe, expect, test } from "vitest";
import { LABEL_CHARS_MAX, labelProblem, scopesOf, SESSION_DEPTH_MAX, TAG_NAME, type Caller, type Labels } from "./identify.ts";

const NO_KEY: Caller = { keyId: undefined, bound: undefined };
const keyWith = (...allow: string[]): Caller => ({ keyId: "k1234567", bound: { project: "bound", agent: "bot", allow } });
const scopes = (caller: Caller, labels: Labels) => scopesOf({ caller, labels, session: "s" });

describe("without a virtual key", () => {
  test("every label is believed", () => {
    const labels = { project: "p", agent: "a", user: "u", task: "t", tags: { team: "core" } };

    expect(scopes(NO_KEY, labels)).toEqual({
      scopes: {
        project: "p",
        agent: "a",
        session: "s",
        parentSessions: [],
        user: "u",
        key: "default",
        task: "t",
        tags: { team: "core" },
      },
      attribution: { user: "u", tags: { team: "core" } },
    });
  });

  test.each<[string, Labels]>([
    ["missing", {}],
    ["empty", { project: "", agent: "", user: "", task: "" }],
  ])("a label that is %s is `default`, a value like any other", (_, labels) => {
    expect(scopes(NO_KEY, labels).scopes).toMatchObject({
      project: "default",
      agent: "default",
      user: "default",
      task: "default",
      tags: {},
    });
  });
});

describe("a virtual key", () => {
  test("binds project and agent: nothing the caller says overrides them", () => {
    expect(scopes(keyWith(), { project: "other", agent: "other" }).scopes).toMatchObject({
      project: "bound",
      agent: "bot",
      key: "k1234567",
    });
  });

  test("lets user and tags count only where it was made to, and keeps them for reports", () => {
    const labels = { user: "u", tags: { team: "core", cost: "1" } };

    const without = scopes(keyWith(), labels);
    expect(without.scopes).toMatchObject({ user: "default", tags: {} });
    expect(without.attribution).toEqual(labels);
    expect(scopes(keyWith("user", "tag:team"), labels).scopes).toMatchObject({ user: "u", tags: { team: "core" } });
  });

  test("lets session and task count always", () => {
    expect(scopes(keyWith(), { task: "t" }).scopes).toMatchObject({ session: "s", task: "t" });
  });
});

test("a session counts for at most eight parents, the nearest, and never for itself", () => {
  const parentSessions = ["p1", "s", ...Array.from({ length: 20 }, (_, index) => `p${index + 2}`)];
  const { scopes: found } = scopes(NO_KEY, { parentSessions });

  expect(found.parentSessions).toEqual(["p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8"]);
  expect(found.parentSessions).toHaveLength(SESSION_DEPTH_MAX);
});

describe("a label's text", () => {
  test.each(["", "a", "ü ✓ 日本", "x".repeat(LABEL_CHARS_MAX)])("may be %j", (value) => {
    expect(labelProblem("x-purser-agent", value)).toBeUndefined();
  });

  test.each<[string, string]>([
    ["too long", "x".repeat(LABEL_CHARS_MAX + 1)],
    ["a line break", "a\nb"],
    ["an escape", "a\u001b[31m"],
    ["a C1 control", "a\u009bb"],
    ["half a character", "a\ud83d"],
  ])("is refused with its name for %s", (_, value) => {
    expect(labelProblem("x-purser-agent", value)).toContain("x-purser-agent");
  });
});

test.each([
  ["team", true],
  ["Team-1.x_y", true],
  ["a".repeat(64), true],
  ["a".repeat(65), false],
  ["", false],
  ["-team", false],
  ["__proto__", false],
  ["te am", false],
])("a tag may be called %j: %s", (name, isAllowed) => {
  expect(TAG_NAME.test(name)).toBe(isAllowed);
});
