/**
 * Owns how a virtual key looks and how one is made. Does not own where its hash is stored (ledger/) or what it may do (engine/identify).
 * Invariants: 256 bits of chance; the secret is shown once and never stored; a typing mistake is told from a revoked key.
 */
import { randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";

const PATTERN = /^prs_([a-z0-9]{8})_([A-Za-z0-9_-]{43})_([0-9a-f]{8})$/;

/** What a caller shows: `prs_<8 of id>_<43 of secret>_<checksum>`. */
export interface ParsedKey {
  keyId: string;
}

/** True for anything that claims to be a virtual key. */
export function isVirtualKey(credential: string): boolean {
  return credential.startsWith("prs_");
}

/** Reads a key's id, or `undefined` if it was cut or mistyped. */
export function parseVirtualKey(credential: string): ParsedKey | undefined {
  const match = PATTERN.exec(credential);
  const [, keyId, , checksum] = match ?? [];
  if (keyId === undefined || checksum !== checksumOf(credential.slice(0, -9))) return undefined;
  return { keyId };
}

/** Makes a new key. */
export function createVirtualKeySecret(): { keyId: string; secret: string } {
  const keyId = Array.from(randomBytes(8), (byte) => "abcdefghijkmnpqrstuvwxyz23456789"[byte % 32]).join("");
  const body = `prs_${keyId}_${randomBytes(32).toString("base64url")}`;
  return { keyId, secret: `${body}_${checksumOf(body)}` };
}

function checksumOf(text: string): string {
  return crc32(text).toString(16).padStart(8, "0");
}
