/**
 * Owns what a request looks like on the wire before its body. Does not own which headers travel (exchange/headers.ts).
 * Invariant: nothing that comes from outside can end its line or state where the body ends.
 */

export interface RequestHead {
  method: "GET" | "POST" | "DELETE";
  /** With its query. */
  path: string;
  /** Names and values, alternating; none of those the connection itself states. */
  headers: readonly string[];
  /** Of the body; `undefined`: it has none. */
  bodyBytes: number | undefined;
}

/** A request that cannot be written as it was asked for. */
export class BadRequestError extends Error {
  override readonly name = "BadRequestError";
  readonly code = "bad_request";
}

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const NOT_IN_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
const NOT_IN_PATH = /[^\x21-\x7e\x80-\xff]/;
/** Stated here: said twice, two readers may believe two different ones. */
const OWN_NAMES = new Set(["host", "connection", "content-length", "transfer-encoding", "expect", "upgrade", "keep-alive", "te"]);
const OWN_NAME_LENGTHS = new Set(Array.from(OWN_NAMES, ({ length }) => length));

/**
 * The head, one character a byte.
 *
 * @param host as the header states it.
 * @throws BadRequestError if it would not be one head.
 */
export function writeHead({ method, path, headers, bodyBytes }: RequestHead, host: string): string {
  if (!path.startsWith("/") || NOT_IN_PATH.test(path)) throw new BadRequestError("the path holds what no path may hold");
  let head = `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\n`;
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] ?? "";
    const value = headers[index + 1] ?? "";
    if (!NAME.test(name) || NOT_IN_VALUE.test(value)) throw new BadRequestError("a header holds what no header may hold");
    if (OWN_NAME_LENGTHS.has(name.length) && OWN_NAMES.has(name.toLowerCase())) {
      throw new BadRequestError(`the header ${name.toLowerCase()} is the connection's own`);
    }
    head += `${name}: ${value}\r\n`;
  }
  return bodyBytes === undefined ? `${head}\r\n` : `${head}content-length: ${bodyBytes}\r\n\r\n`;
}
