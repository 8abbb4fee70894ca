/**
 * A web server with one file, for the HTTP disk: `range-server.ts BYTES`. Byte i is i / 512 mod 251.
 * `/disk` knows ranges, `/whole` does not. Prints its port.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

const data = new Uint8Array(Number(process.argv[2]));
for (let i = 0; i < data.length; i++) data[i] = Math.floor(i / 512) % 251;

const server = createServer((request, response) => {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
  if (request.url !== "/disk" || first === undefined) {
    response.writeHead(request.url === "/whole" ? 200 : 404).end(data);
    return;
  }
  const part = data.subarray(Number(first), Number(last) + 1);
  response.writeHead(206, { "content-range": `bytes ${first}-${last}/${data.length}` }).end(part);
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
