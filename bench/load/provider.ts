/**
 * The provider of the benchmarks, on bare sockets: fixed answers, paced or held streams, faults on request, and its own bill.
 * Prints its port. A line on standard input: `release` lets held streams go on, `bill` prints what it charges, as JSON.
 */
import { createInterface } from "node:readline";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { Message } from "./message.ts";
import {
  ERROR_ANSWER,
  INPUT_TOKENS,
  JSON_ANSWER,
  OUTPUT_TOKENS,
  STAMP,
  STAMP_DIGITS,
  STREAM_ANSWER,
  STREAM_END,
  STREAM_EVENTS,
  STREAM_HEAD,
} from "./traffic.ts";

const PACE_MS = 10;
const SLOW_MS = 500;
/** claude-opus-5-5, dollars 4 and 20 per million tokens, typed by hand: this bill knows nothing of Purser's prices. */
const CALL_NANO_USD = INPUT_TOKENS * 4_000 + OUTPUT_TOKENS * 20_000;

/** Calls that were answered whole; those whose answer the provider broke off are charged too, and counted apart. */
const bill = { answered: 0, broken: 0, errors: 0 };
const held = new Set<Socket>();

const server = createServer({ noDelay: true }, (socket) => {
  let message = new Message();
  socket.on("error", () => undefined);
  socket.on("close", () => held.delete(socket));
  socket.on("data", (data) => {
    if (!message.take(data)) return;
    const { tail } = message;
    message = new Message();
    answer(socket, tail);
  });
});
server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 }, () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
});

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "bill") {
    const { answered, broken, errors } = bill;
    const dollars = { answeredNanoUsd: answered * CALL_NANO_USD, brokenNanoUsdMax: broken * CALL_NANO_USD };
    process.stdout.write(`${JSON.stringify({ answered, broken, errors, ...dollars })}\n`);
  }
  if (line !== "release") return;
  for (const socket of held) {
    bill.answered += 1;
    socket.write(STREAM_EVENTS.slice(5).join("") + STREAM_END);
  }
  held.clear();
});
process.stdin.on("end", () => process.exit(0));

function answer(socket: Socket, tail: string): void {
  const isStream = tail.includes('"stream":true');
  const manner = /bench-(\w+)/.exec(tail)?.[1];
  if (manner === "reset") {
    bill.broken += 1;
    socket.resetAndDestroy();
  } else if (manner === "error") {
    bill.errors += 1;
    socket.write(ERROR_ANSWER);
  } else if (manner === "slow") {
    setTimeout(() => {
      bill.answered += 1;
      socket.write(JSON_ANSWER);
    }, SLOW_MS);
  } else if (!isStream) {
    bill.answered += 1;
    socket.write(JSON_ANSWER);
  } else if (manner === "paced") pace(socket);
  else if (manner === "held") {
    socket.write(STREAM_HEAD + STREAM_EVENTS.slice(0, 5).join(""));
    held.add(socket);
  } else if (manner === "cut") {
    bill.broken += 1;
    socket.write(STREAM_HEAD + STREAM_EVENTS.slice(0, 30).join(""), () => socket.destroy());
  } else {
    bill.answered += 1;
    socket.write(STREAM_ANSWER);
  }
}

function pace(socket: Socket): void {
  let index = 0;
  const zeros = STAMP + "0".repeat(STAMP_DIGITS);
  const send = (): void => {
    const piece = STREAM_EVENTS[index] ?? "";
    const stamp = STAMP + String(process.hrtime.bigint()).padStart(STAMP_DIGITS, "0");
    index += 1;
    socket.write(
      (index === 1 ? STREAM_HEAD : "") + piece.replace(zeros, stamp) + (index === STREAM_EVENTS.length ? STREAM_END : ""),
    );
    if (index < STREAM_EVENTS.length && !socket.destroyed) return;
    clearInterval(timer);
    bill.answered += 1;
  };
  const timer = setInterval(send, PACE_MS);
  send();
}
