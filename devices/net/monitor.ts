/**
 * A socket on which the operator takes links down, puts them up, and asks for counters. A line is a
 * command, and has one line as its answer: `ok`, the counters as JSON, or what is wrong.
 */
import { type BoundSocket, bindSocket } from "../../core/bind-socket.ts";
import type { Host, Watch } from "../../core/mod.ts";
import { accept, bytes, EAGAIN, EINTR, errno, type Fd, libc } from "../../ffi/mod.ts";
import { type Counters, describeCounters } from "./counters.ts";

/** Operators at a time. */
const CLIENTS = 8;
/** The longest command, in bytes. */
const LINE = 256;

/** What commands are about. */
export interface Monitored {
  readonly counters: Counters;
  wantLink(up: boolean): void;
}

const commands = "link up [PORT], link down [PORT], counters";

/** Carries a command out. `ports` are numbered from 0 on. Returns the answer. */
export function obey(command: string, ports: readonly Monitored[]): string {
  const [verb, ...words] = command.trim().split(/\s+/);
  if (verb === "counters" && words.length === 0) {
    return JSON.stringify(ports.map(({ counters }) => describeCounters(counters)));
  }
  const [state, port] = words;
  if (verb !== "link" || (state !== "up" && state !== "down") || words.length > 2) {
    return `error: the commands are: ${commands}`;
  }
  const chosen =
    port === undefined ? ports : /^\d+$/.test(port) ? ports.slice(+port, +port + 1) : [];
  if (chosen.length === 0) return `error: there are ports from 0 to ${ports.length - 1}`;
  for (const each of chosen) each.wantLink(state === "up");
  return "ok";
}

export class Monitor implements Disposable {
  readonly #host: Host<any>;
  readonly #ports: readonly Monitored[];
  readonly #socket: BoundSocket;
  readonly #listening: Watch;
  readonly #clients = new Set<Client>();

  /** Listens at `path`. Throws `Error` when that is not possible. */
  constructor(path: string, host: Host<any>, ports: readonly Monitored[]) {
    this.#host = host;
    this.#ports = ports;
    this.#socket = bindSocket(path);
    this.#listening = host.watch(this.#socket.fd.number, () => this.#accept());
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
    for (const client of this.#clients) client[Symbol.dispose]();
    this.#socket.unlink();
    this.#socket.fd.close();
  }

  #accept(): void {
    const connection = accept(this.#socket.fd);
    if (connection === null) return;
    if (this.#clients.size === CLIENTS) return connection.close();
    connection.setNonBlocking();
    const client: Client = new Client(connection, this.#host, {
      obey: (command) => obey(command, this.#ports),
      ended: () => this.#clients.delete(client),
    });
    this.#clients.add(client);
  }
}

interface ClientHooks {
  obey(command: string): string;
  ended(): void;
}

/** One connection. It ends when the other side says too much at once, or does not read. */
class Client implements Disposable {
  readonly #fd: Fd;
  readonly #watch: Watch;
  readonly #hooks: ClientHooks;
  readonly #input = bytes(LINE);
  #line = "";

  constructor(fd: Fd, host: Host<any>, hooks: ClientHooks) {
    this.#fd = fd;
    this.#hooks = hooks;
    this.#watch = host.watch(fd.number, () => this.#read());
  }

  [Symbol.dispose](): void {
    if (this.#fd.closed) return;
    this.#watch[Symbol.dispose]();
    this.#fd.close();
    this.#hooks.ended();
  }

  #read(): void {
    const got = libc.read(this.#fd.number, this.#input, LINE);
    if (got <= 0) {
      const why = got < 0 ? errno() : 0;
      if (why !== EAGAIN && why !== EINTR) this[Symbol.dispose]();
      return;
    }
    this.#line += Buffer.from(this.#input.subarray(0, got)).toString("latin1");
    const lines = this.#line.split("\n");
    this.#line = lines.pop()!;
    for (const line of lines) if (!this.#answer(this.#hooks.obey(line))) return;
    if (this.#line.length > LINE) this[Symbol.dispose]();
  }

  #answer(text: string): boolean {
    const encoded = new TextEncoder().encode(`${text}\n`);
    const data = bytes(encoded.length);
    data.set(encoded);
    if (libc.write(this.#fd.number, data, data.length) === data.length) return true;
    this[Symbol.dispose]();
    return false;
  }
}
