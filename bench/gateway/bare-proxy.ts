/** What there is to compare with: node:http in front, undici behind, bytes through, nothing read. Prints its port. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Pool } from "undici";

const pool = new Pool(process.argv[2] ?? "", { connections: null, pipelining: 1 });
const server = createServer((request, response) => {
  const path = request.url ?? "/";
  pool.request({ method: "POST", path, headers: request.headers, body: request }).then(
    async ({ statusCode, headers, body }) => {
      response.writeHead(statusCode, headers as Record<string, string>);
      for await (const chunk of body) response.write(chunk);
      response.end();
    },
    () => response.destroy(),
  );
});
server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
