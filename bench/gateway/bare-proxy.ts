/** What there is to compare with: node:http in front, undici behind, bytes through, nothing read. Prints its port. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Pool } from "undici";

const pool = new Pool(process.argv[2] ?? "", { connections: null, pipelining: 1 });
async function carry(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = request.url ?? "/";
  const { statusCode, headers, body } = await pool.request({ method: "POST", path, headers: request.headers, body: request });
  response.writeHead(statusCode, headers as Record<string, string>);
  for await (const chunk of body) response.write(chunk);
  response.end();
}

const server = createServer((request, response) => {
  carry(request, response).catch(() => response.destroy());
});
server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 }, () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
});
