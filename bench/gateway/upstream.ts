/** The provider of the benchmark: a fixed JSON answer or a stream of 60 events, as fast as the socket takes it. Prints its port. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

const usage = { input_tokens: 900, cache_creation_input_tokens: 0, cache_read_input_tokens: 0, output_tokens: 120 };
const message = { id: "msg_1", type: "message", role: "assistant", model: "claude-sonnet-5-5", stop_sequence: null };
const json = JSON.stringify({ ...message, content: [{ type: "text", text: "x".repeat(900) }], stop_reason: "end_turn", usage });
const event = (type: string, data: object): string => `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;
const stream = [
  event("message_start", { message: { ...message, content: [], stop_reason: null, usage: { ...usage, output_tokens: 1 } } }),
  event("content_block_start", { index: 0, content_block: { type: "text", text: "" } }),
  ...Array.from({ length: 56 }, () =>
    event("content_block_delta", { index: 0, delta: { type: "text_delta", text: "word ".repeat(8) } }),
  ),
  event("content_block_stop", { index: 0 }),
  event("message_delta", { delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 120 } }),
  event("message_stop", {}),
];

const server = createServer((request, response) => {
  const isStream = request.headers["x-bench"] === "stream";
  request.resume();
  request.on("end", () => {
    if (!isStream) {
      response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(json) });
      response.end(json);
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const piece of stream) response.write(piece);
    response.end();
  });
});
server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
