import { expect, test } from "vitest";
import { createUsualOutputs } from "./usual-outputs.ts";

test("nine of ten answers of an agent are no longer than its usual output", () => {
  const outputs = createUsualOutputs();

  for (let tokens = 10; tokens >= 1; tokens -= 1) outputs.note("a", tokens * 100);

  expect([outputs.of("a"), outputs.of("b")]).toEqual([900, 0]);
});

test("one answer is what is usual until there are more", () => {
  const outputs = createUsualOutputs();

  outputs.note("a", 7);

  expect(outputs.of("a")).toBe(7);
});

test("only the last two hundred answers count", () => {
  const outputs = createUsualOutputs();
  for (let count = 0; count < 200; count += 1) outputs.note("a", 50_000);

  for (let count = 0; count < 200; count += 1) outputs.note("a", 10);

  expect(outputs.of("a")).toBe(10);
});

test("a thousand agents are remembered, and the one idle longest is forgotten first", () => {
  const outputs = createUsualOutputs();
  for (let count = 0; count < 1_000; count += 1) outputs.note(`a${count}`, 5);
  outputs.note("a0", 5);

  outputs.note("one more", 5);

  expect([outputs.of("a0"), outputs.of("a1"), outputs.of("one more")]).toEqual([5, 0, 5]);
});
