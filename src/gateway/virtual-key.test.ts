import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createVirtualKeySecret, isVirtualKey, parseVirtualKey } from "./virtual-key.ts";

describe("a virtual key", () => {
  test("is made so that it reads as its own id, and no two are alike", () => {
    const keys = Array.from({ length: 200 }, createVirtualKeySecret);

    for (const { keyId, secret } of keys) {
      expect(secret).toMatch(/^prs_[a-z0-9]{8}_[A-Za-z0-9_-]{43}_[0-9a-f]{8}$/);
      expect(parseVirtualKey(secret)).toEqual({ keyId });
    }
    expect(new Set(keys.map(({ secret }) => secret)).size).toBe(200);
    expect(new Set(keys.map(({ keyId }) => keyId)).size).toBe(200);
  });

  test("has the checksum that others compute", () => {
    // CRC-32 (ISO-HDLC) of everything before the last underscore.
    const body = `prs_abcdefgh_${"A".repeat(43)}`;

    expect(parseVirtualKey(`${body}_${crc32Of(body)}`)).toEqual({ keyId: "abcdefgh" });
    expect(parseVirtualKey(`${body}_00000000`)).toBeUndefined();
  });

  test("that is cut, or has any one character typed otherwise, is none", () => {
    const { secret } = createVirtualKeySecret();
    const characters = fc.constantFrom("a", "X", "0", "9", "_", "-", " ");
    fc.assert(
      fc.property(fc.nat(secret.length - 1), characters, (at, character) => {
        const typed = secret.slice(0, at) + character + secret.slice(at + 1);
        expect(parseVirtualKey(typed) !== undefined).toBe(typed === secret);
        expect(parseVirtualKey(secret.slice(0, at))).toBeUndefined();
      }),
    );
  });

  test("with two neighbours swapped is none", () => {
    const { secret } = createVirtualKeySecret();
    for (let at = 0; at < secret.length - 1; at += 1) {
      const swapped = secret.slice(0, at) + (secret[at + 1] ?? "") + (secret[at] ?? "") + secret.slice(at + 2);
      expect(parseVirtualKey(swapped) !== undefined).toBe(swapped === secret);
    }
  });

  test("is claimed by its beginning, whatever follows", () => {
    expect([isVirtualKey("prs_"), isVirtualKey("sk-ant-prs_"), isVirtualKey("PRS_x")]).toEqual([true, false, false]);
  });

  test("is no text that merely looks like one", () => {
    expect(parseVirtualKey("")).toBeUndefined();
    fc.assert(fc.property(fc.string(), (text) => parseVirtualKey(`prs_${text}`) === undefined));
  });
});

/** CRC-32, bit by bit: another way than the library's. */
function crc32Of(text: string): string {
  let crc = 0xffffffff;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? 0xedb88320 : 0);
  }
  return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, "0");
}
