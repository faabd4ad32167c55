/** A certificate for tests, made anew each time: a key that lies in a repository is no key. */
import { generateKeyPairSync, sign } from "node:crypto";

const tagged = (tag: number, ...parts: Uint8Array[]): Buffer => {
  const content = Buffer.concat(parts);
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
};
const sequence = (...parts: Uint8Array[]): Buffer => tagged(0x30, ...parts);
const text = (tag: number, value: string): Buffer => tagged(tag, Buffer.from(value, "latin1"));
const hex = (value: string): Buffer => Buffer.from(value, "hex");

const ECDSA_SHA256 = sequence(hex("06082a8648ce3d040302"));
const COMMON_NAME = hex("0603550403");
const ALT_NAMES = hex("0603551d11");

/** Signed by itself, for one name of a host. In PEM. */
export function createCertificate(host: string): { key: string; cert: string } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const name = sequence(tagged(0x31, sequence(COMMON_NAME, text(0x0c, host))));
  const altNames = sequence(ALT_NAMES, tagged(0x04, sequence(text(0x82, host))));
  const toBeSigned = sequence(
    tagged(0xa0, hex("020102")),
    hex("020101"),
    ECDSA_SHA256,
    name,
    sequence(text(0x17, "200101000000Z"), text(0x17, "491231235959Z")),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    tagged(0xa3, sequence(altNames)),
  );
  const signature = sign("sha256", toBeSigned, privateKey);
  const der = sequence(toBeSigned, ECDSA_SHA256, tagged(0x03, hex("00"), signature));
  const lines = der.toString("base64").replaceAll(/.{64}/g, "$&\n");
  const label = "CERTIFICATE";
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    cert: `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`,
  };
}
