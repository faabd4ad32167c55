import { expect, it } from "vitest";
import * as testing from "./testing.ts";

it("exports exactly the names that purser/testing promises", () => {
  expect(Object.keys(testing)).toEqual(["startOpenAiSimulator", "startSimulator"]);
});
