/** The vectors' device behind a real session, and front-ends made of bytes that talk to it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Backend, type BackendContext, openBackend } from "../../core/backend.ts";
import { Log, type LogRecord } from "../../core/log.ts";
import { Loop } from "../../core/loop.ts";
import {
  createEventFd,
  createMemfd,
  type Fd,
  libc,
  MessageBuffer,
  O_RDONLY,
  O_RDWR,
  openFile,
  SystemError,
  socketPair,
} from "../../ffi/mod.ts";
import { until } from "../core/until.ts";
import { createPipe } from "../ffi/pipe.ts";
import { STATE, tricks, vectorDevice } from "./device.ts";

export class TestServer {
  readonly records: LogRecord[] = [];
  readonly folder = mkdtempSync(join(tmpdir(), "ringside-vectors-"));
  readonly #loop: Loop;
  readonly #running: Promise<void>;
  #backend: Backend | null = null;
  #busy = false;

  private constructor(loop: Loop) {
    this.#loop = loop;
    this.#running = loop.run();
    writeFileSync(join(this.folder, "regular"), "text");
  }

  static async start(context: Partial<BackendContext> = {}): Promise<TestServer> {
    const loop = new Loop();
    loop.useEvents();
    const server = new TestServer(loop);
    const log = new Log((record) => server.records.push(record), "debug");
    server.#backend = await openBackend(vectorDevice, {}, { loop, log, ...context });
    return server;
  }

  connect(): TestClient {
    const [ours, theirs] = socketPair();
    this.#busy = true;
    this.#backend!.serve(theirs, () => {
      this.#busy = false;
    });
    return new TestClient(ours, this.folder, () => until(() => !this.#busy, "the session's end"));
  }

  /** The device does one of its tricks, or changes a field of its config space. */
  act(name: string, value = ""): void {
    const trick = tricks[name];
    if (trick === undefined) return this.#backend!.updateConfig({ [name]: Number(value) });
    trick(this.#backend!.frontEnd, value);
  }

  async stop(): Promise<void> {
    await this.#backend!.close();
    this.#loop.stop();
    await this.#running;
    this.#loop[Symbol.dispose]();
    rmSync(this.folder, { recursive: true });
  }
}

/** One connection. */
export class TestClient implements AsyncDisposable {
  readonly #socket: Fd;
  readonly #folder: string;
  readonly #ended: () => Promise<void>;
  readonly #out = new MessageBuffer(4096);
  readonly #in = new MessageBuffer(4096);
  readonly #received: Fd[] = [];
  /** Our ends of pipes that state is saved to. */
  readonly #kept: Fd[] = [];
  /** Our end of the last socket sent as `channel`. */
  #channel: Fd | null = null;

  constructor(socket: Fd, folder: string, ended: () => Promise<void>) {
    this.#socket = socket;
    this.#folder = folder;
    this.#ended = ended;
  }

  send(bytes: Uint8Array, kinds: readonly string[] = []): void {
    const fds = kinds.map((kind) => this.#make(kind));
    this.#write(
      this.#socket,
      bytes,
      fds.map((fd) => fd.number),
    );
    for (const fd of fds) fd.close();
  }

  /** Receives `length` bytes, fewer only when the connection ends. */
  receive(length: number): Promise<Uint8Array> {
    return this.#read(this.#socket, length);
  }

  sendOnChannel(bytes: Uint8Array, kinds: readonly string[] = []): void {
    const fds = kinds.map((kind) => this.#make(kind));
    const numbers = fds.map((fd) => fd.number);
    this.#write(this.#channel!, bytes, numbers);
    for (const fd of fds) fd.close();
  }

  /** How many descriptors came since this was asked last. */
  descriptors(): number {
    return this.#received.splice(0).length;
  }

  receiveOnChannel(length: number): Promise<Uint8Array> {
    return this.#read(this.#channel!, length);
  }

  /** Bytes that have come, on either socket, and that nobody has received. */
  pending(): number {
    const sockets = this.#channel === null ? [this.#socket] : [this.#socket, this.#channel];
    return sockets.reduce((sum, socket) => sum + Math.max(0, this.#in.receive(socket, 0, 4096)), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    this.#channel?.close();
    for (const fd of this.#kept) fd.close();
    await this.#ended();
  }

  #write(socket: Fd, bytes: Uint8Array, fds: readonly number[]): void {
    this.#out.data.set(bytes);
    const sent = this.#out.send(socket, 0, bytes.length, fds);
    if (sent !== bytes.length) throw new Error(`sent ${sent} of ${bytes.length} bytes`);
  }

  async #read(socket: Fd, length: number): Promise<Uint8Array> {
    let have = 0;
    await until(() => {
      const got = this.#receive(socket, have, length - have);
      have += Math.max(got, 0);
      return got === 0 || have === length;
    }, `${length} bytes`);
    return this.#in.data.slice(0, have);
  }

  #receive(socket: Fd, at: number, length: number): number {
    try {
      const got = this.#in.receive(socket, at, length);
      this.#received.push(...this.#in.received);
      for (const fd of this.#in.received) fd.close();
      return got;
    } catch (error) {
      // So ends a connection whose last message was not read to its end.
      if (error instanceof SystemError && error.code === "ECONNRESET") return 0;
      throw error;
    }
  }

  #make(kind: string): Fd {
    switch (kind) {
      case "memory":
        return createMemfd("ringside-vectors", 0x10000);
      case "small-memory":
        return createMemfd("ringside-vectors", 0x8000);
      case "event":
        return createEventFd();
      case "regular":
        return openFile(join(this.#folder, "regular"), O_RDWR);
      case "directory":
        return openFile(this.#folder, O_RDONLY);
      case "save": {
        const { reader, writer } = createPipe();
        this.#kept.push(reader);
        return writer;
      }
      case "load":
      case "load-other": {
        const { reader, writer } = createPipe();
        const state = kind === "load" ? STATE : STATE.slice(1);
        libc.write(writer.number, state, state.length);
        writer.close();
        return reader;
      }
      case "channel": {
        const [ours, theirs] = socketPair();
        this.#channel?.close();
        this.#channel = ours;
        return theirs;
      }
      default:
        throw new Error(`there are no descriptors of the kind "${kind}"`);
    }
  }
}
