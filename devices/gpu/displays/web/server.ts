/** The HTTP server of `--web`: one page, and the WebSocket that shows it the screen. */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import type { WebSocket, WebSocketServer } from "ws";
import { hostInUrl, isOurHost, isOurOrigin, type WebAddress } from "./address.ts";
import { pageHeaders, pageText } from "./page.ts";

/** Browsers at once. */
const MAX_VIEWERS = 16;
/** Connections at once, those of browsers that fetch the page included. */
const MAX_CONNECTIONS = 64;
/** Bytes of the longest message that a page may send. */
const MAX_MESSAGE = 1024;
const TOKEN_BYTES = 18;

const FORBIDDEN = "403 Forbidden";
const NOT_FOUND = "404 Not Found";
const TOO_MANY = "503 Service Unavailable";

export class WebServer implements Disposable {
  /** What to open in a browser. */
  readonly url: string;
  readonly #http: Server;
  readonly #sockets: WebSocketServer;

  private constructor(http: Server, sockets: WebSocketServer, url: string) {
    this.#http = http;
    this.#sockets = sockets;
    this.url = url;
  }

  /** Listens. Calls `welcome` for each page that connects. Throws `Error` when it cannot listen. */
  static async open(address: WebAddress, welcome: (socket: WebSocket) => void): Promise<WebServer> {
    const { WebSocketServer } = await import("ws");
    const token = randomBytes(TOKEN_BYTES).toString("base64url");
    const sockets = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE,
    });
    const refusal = (request: IncomingMessage) => refusalOf(request, address.host, token);
    const http = createServer((request, response) => answer(request, response, refusal(request)));
    http.maxConnections = MAX_CONNECTIONS;
    http.on("upgrade", (request, socket: Duplex, head) => {
      socket.on("error", () => {});
      const full = sockets.clients.size >= MAX_VIEWERS;
      const where = request.url === `/${token}/screen` ? null : NOT_FOUND;
      const reason = refusal(request) ?? where ?? (full ? TOO_MANY : null);
      if (reason !== null) return refuse(socket, reason);
      sockets.handleUpgrade(request, socket, head, welcome);
    });
    const { port } = await listen(http, address);
    return new WebServer(http, sockets, `http://${hostInUrl(address.host)}:${port}/${token}/`);
  }

  get #clients(): Set<WebSocket> {
    return this.#sockets.clients;
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients) client.terminate();
    this.#http.close();
    this.#http.closeAllConnections();
  }
}

function listen(http: Server, { host, port }: WebAddress): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    http.once("error", (error) => {
      const where = `${hostInUrl(host)}:${port}`;
      reject(new Error(`Cannot listen on ${where}: ${error.message}`, { cause: error }));
    });
    http.listen(port, host, () => resolve(http.address() as AddressInfo));
  });
}

/** Why a request is refused, or null. */
function refusalOf({ headers, url = "" }: IncomingMessage, host: string, token: string) {
  if (!isOurHost(headers.host, host) || !isOurOrigin(headers.origin, headers.host)) {
    return FORBIDDEN;
  }
  const given = Buffer.from(/^\/([\w-]+)\//.exec(url)?.[1] ?? "");
  const wanted = Buffer.from(token);
  return given.length === wanted.length && timingSafeEqual(given, wanted) ? null : FORBIDDEN;
}

function answer(request: IncomingMessage, response: ServerResponse, refusal: string | null): void {
  const { method, url = "" } = request;
  const known = /^\/[\w-]+\/$/.test(url) && (method === "GET" || method === "HEAD");
  const reason = refusal ?? (known ? null : NOT_FOUND);
  if (reason === null) {
    response.writeHead(200, pageHeaders);
    response.end(method === "HEAD" ? undefined : pageText);
    return;
  }
  response.writeHead(Number.parseInt(reason, 10), { "Content-Type": "text/plain" });
  response.end(`${reason}\n`);
}

/** Answers a request for a WebSocket with an error. */
function refuse(socket: Duplex, reason: string): void {
  socket.end(`HTTP/1.1 ${reason}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
