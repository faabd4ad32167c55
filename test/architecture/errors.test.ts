import { readdirSync, readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import { ERROR_CODES, type ErrorCode } from "../../src/core/errors/codes.ts";
import { shapeError } from "../../src/providers/anthropic/errors.ts";
import { SAMPLES } from "./refusal-samples.fixture.ts";

const FOLDER = new URL("../../docs/errors/", import.meta.url);
const REQUEST_ID = "req_01jd2x7m9q";

function pageOf(code: string): string {
  return readFileSync(new URL(`${code}.md`, FOLDER), "utf8");
}

/** The answer as a page shows it: status, our own headers, and the body over several lines. */
function exampleOf(code: ErrorCode): string {
  const { status, headers, body } = shapeError(SAMPLES[code], { userAgent: undefined, requestId: REQUEST_ID });
  const shown = Object.entries(headers).filter(([name]) => name !== "content-type" && name !== "request-id");
  return [
    "```http",
    `HTTP/1.1 ${status}`,
    ...shown.map(([name, value]) => `${name}: ${value}`),
    "",
    JSON.stringify(JSON.parse(body), null, 2),
    "```",
  ].join("\n");
}

describe("the error catalogue", () => {
  it("has a page for every code and a code for every page", () => {
    const pages = readdirSync(FOLDER).filter((file) => file !== "README.md");

    expect(pages.toSorted()).toEqual([...ERROR_CODES].map((code) => `${code}.md`).toSorted());
  });

  it("lists every code in the pages' index, and nothing else", () => {
    const index = readFileSync(new URL("README.md", FOLDER), "utf8");
    const linked = [...index.matchAll(/\]\((\w+)\.md\)/g)].map(([, code]) => code ?? "");

    expect(linked.toSorted()).toEqual([...ERROR_CODES].toSorted());
  });

  it.each(ERROR_CODES)("has a status and a sample for %s", (code) => {
    const { status } = shapeError(SAMPLES[code], { userAgent: undefined, requestId: REQUEST_ID });

    expect(status).toBeGreaterThanOrEqual(400);
    expect(SAMPLES[code].details.code).toBe(code);
  });

  it.each(ERROR_CODES)("shows on the page of %s the answer that is really given", (code) => {
    expect(pageOf(code)).toContain(exampleOf(code));
  });

  it.each(ERROR_CODES)("says on the page of %s what happened, why, and what to do", (code) => {
    const headings = [...pageOf(code).matchAll(/^#+ .*$/gm)].map(([heading]) => heading);

    expect(headings).toEqual([`# ${code}`, "## What happened", "## Why", "## What to do", "## Example"]);
  });
});
