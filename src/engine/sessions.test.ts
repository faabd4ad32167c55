import { describe, expect, test } from "vitest";
import { createCountingIds, createFakeClock, plainFingerprints } from "./engine.fixture.ts";
import { createSessionFinder, SESSION_IDLE_MS_MAX } from "./sessions.ts";

function start() {
  const clock = createFakeClock();
  const finder = createSessionFinder({ clock, ids: createCountingIds() });
  const find = (owner: string, ...messages: string[]): string =>
    finder.find(owner, plainFingerprints(messages.map((message) => new TextEncoder().encode(message))));
  return { clock, find };
}

describe("a session nobody named", () => {
  test("goes on where the messages extend the last ones seen in it", () => {
    const { find } = start();
    const session = find("k", "hello");

    expect(find("k", "hello", "hi", "more")).toBe(session);
    expect(find("k", "hello", "hi", "more", "yes", "on")).toBe(session);
  });

  test("goes on for a retry of the same request, as often as it comes", () => {
    const { find } = start();
    const session = find("k", "hello", "hi", "more");

    expect(find("k", "hello", "hi", "more")).toBe(session);
    expect(find("k", "hello", "hi", "more")).toBe(session);
  });

  test("is another for another conversation, another owner, and a conversation without messages", () => {
    const { find } = start();
    const sessions = [find("k", "hello"), find("k", "other"), find("other", "hello"), find("k"), find("k")];

    expect(new Set(sessions).size).toBe(5);
  });

  test("is another where the conversation takes another turn than the one that was seen last", () => {
    const { find } = start();
    const session = find("k", "hello", "hi", "left");

    expect(find("k", "hello", "hi", "right")).not.toBe(session);
    expect(find("k", "hello")).not.toBe(session);
    expect(find("k", "hello", "hi", "left", "a", "b")).toBe(session);
  });

  test("goes on beside another one with the same beginning", () => {
    const { find } = start();
    const first = find("k", "hello", "a", "one");
    const second = find("k", "hello", "b", "two");

    expect(find("k", "hello", "a", "one", "c", "d")).toBe(first);
    expect(find("k", "hello", "b", "two", "c", "d")).toBe(second);
  });

  test("is not one that merely reads alike when its messages are joined", () => {
    const { find } = start();

    expect(find("k", "ab", "c")).not.toBe(find("k", "a", "bc"));
  });
});

describe("idleness", () => {
  test("of up to 30 minutes keeps a session", async () => {
    const { clock, find } = start();
    const session = find("k", "hello");
    await clock.advance(SESSION_IDLE_MS_MAX);

    expect(find("k", "hello", "hi", "more")).toBe(session);
    await clock.advance(SESSION_IDLE_MS_MAX);
    expect(find("k", "hello", "hi", "more", "yes", "on")).toBe(session);
  });

  test("of more ends it", async () => {
    const { clock, find } = start();
    const session = find("k", "hello");
    await clock.advance(SESSION_IDLE_MS_MAX + 1);

    expect(find("k", "hello", "hi", "more")).not.toBe(session);
  });
});

test("memory is bounded: of more than 50,000 conversations the one idle longest is forgotten", () => {
  const { find } = start();
  const first = find("k", "first");
  const second = find("k", "second");
  for (let index = 0; index < 50_000; index += 1) find("k", `conversation ${index}`);

  expect(find("k", "second", "hi", "more")).not.toBe(second);
  expect(find("k", "first", "hi", "more")).not.toBe(first);
  expect(find("k", "conversation 49999", "a", "b")).toBe(find("k", "conversation 49999", "a", "b", "c", "d"));
});
