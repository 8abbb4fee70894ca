/**
 * Descriptors of every kind that a front-end may pass, made by name: a trace of a run can be played
 * again with objects of the same kinds.
 */
import { unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  bytes,
  check,
  createEventFd,
  createMemfd,
  type Fd,
  libc,
  Mapping,
  O_RDONLY,
  O_RDWR,
  openFile,
  Poller,
  S_IFMT,
  S_IFREG,
  socketPair,
} from "../../ffi/mod.ts";
import { blockingEventFd, directory, fill, zeroDevice } from "../bad-input/objects.ts";
import type { Random } from "../bad-input/random.ts";
import { createPipe } from "../ffi/pipe.ts";
import type { Arena } from "./arena.ts";
import type { Passed } from "./wire.ts";

const O_NONBLOCK = 0o4000;

/** Kinds that are made once and may be passed again and again. */
const lasting: Readonly<Record<string, () => Fd>> = {
  "eventfd-0": createEventFd,
  "eventfd-1": createEventFd,
  "eventfd-2": createEventFd,
  "eventfd-3": createEventFd,
  "eventfd-blocking": blockingEventFd,
  "eventfd-full": () => {
    const fd = blockingEventFd();
    fill(fd);
    return fd;
  },
  "memfd-page": () => createMemfd("fuzz-page", 4096),
  "memfd-large": () => createMemfd("fuzz-large", 4 * 1024 * 1024),
  "memfd-empty": () => createMemfd("fuzz-empty", 0),
  "memfd-shrunk": () => {
    const fd = createMemfd("fuzz-shrunk", 1024 * 1024);
    check(libc.ftruncate(fd.number, 4096), "ftruncate");
    return fd;
  },
  directory,
  zero: zeroDevice,
  regular: () => regularFile(O_RDWR),
  "regular-read-only": () => regularFile(O_RDONLY),
  epoll: () => new Poller().fd,
};

function regularFile(flags: number): Fd {
  const path = join(tmpdir(), `ringside-fuzz-regular-${process.pid}`);
  writeFileSync(path, new Uint8Array(8192));
  const fd = openFile(path, flags);
  unlinkSync(path);
  return fd;
}

/** What is written into the pipe that a state is loaded from. */
const STATE = bytes(100).fill(0xab);

export class Objects implements Disposable {
  readonly #arena: Arena;
  readonly #lasting = new Map<string, Fd>();
  /** What was made for one message, and our ends of it. */
  #fresh: Fd[] = [];
  /** Our ends of sockets that were passed as `channel`. */
  channels: Fd[] = [];
  #saved: Fd | null = null;
  readonly #kept = new Map<string, Fd[]>();

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /**
   * Kinds that any message may be sent with. Not `channel`: a back-end that waits for what comes out
   * of it, as a state, would wait for as long as it may.
   */
  static readonly kinds: readonly string[] = [
    ...Object.keys(lasting),
    "guest",
    "socket",
    "pipe-reader",
    "pipe-writer",
    "pipe-closed",
    "state-save",
    "state-load",
    "state-load-long",
  ];

  get(kind: string): Passed {
    return { kind, fd: this.#find(kind) };
  }

  /** Keeps descriptors that came with the reply to a message, for kind `reply-NAME`. */
  keep(name: string, fds: Fd[]): void {
    for (const fd of this.#kept.get(name) ?? []) this.#fresh.push(fd);
    this.#kept.set(name, fds);
  }

  #find(kind: string): Fd {
    if (kind === "guest") return this.#arena.memfd;
    if (kind.startsWith("reply-")) {
      return this.#kept.get(kind.slice("reply-".length))?.[0] ?? this.#find("memfd-page");
    }
    const make = lasting[kind];
    if (make === undefined) return this.#make(kind);
    let fd = this.#lasting.get(kind);
    if (fd === undefined) {
      fd = make();
      this.#lasting.set(kind, fd);
    }
    return fd;
  }

  #make(kind: string): Fd {
    switch (kind) {
      case "socket":
      case "channel": {
        const [ours, theirs] = socketPair();
        if (kind === "channel") this.channels.push(ours);
        this.#fresh.push(ours, theirs);
        return theirs;
      }
      case "pipe-reader":
      case "state-load":
      case "state-load-long":
        return this.#reader(kind);
      case "pipe-writer":
      case "state-save":
      case "pipe-closed":
        return this.#writer(kind);
      default:
        throw new Error(`There are no descriptors of kind "${kind}"`);
    }
  }

  /** A pipe with something in it, and at its end where a state is loaded from it. */
  #reader(kind: string): Fd {
    const { reader, writer } = createPipe(O_NONBLOCK);
    this.#fresh.push(reader);
    const count = kind === "state-load-long" ? 100 : 1;
    for (let i = 0; i < count; i++) libc.write(writer.number, STATE, STATE.length);
    if (kind === "pipe-reader") this.#fresh.push(writer);
    else writer.close();
    return reader;
  }

  #writer(kind: string): Fd {
    const { reader, writer } = createPipe(O_NONBLOCK);
    this.#fresh.push(writer);
    if (kind === "pipe-closed") reader.close();
    else if (kind === "pipe-writer") this.#fresh.push(reader);
    else {
      // Somebody must be there for as long as a state is written.
      this.#saved?.close();
      this.#saved = reader;
    }
    return writer;
  }

  /**
   * Closes what was made for single messages. Transfers that the back-end waits for end by that.
   * `keepChannels` leaves the sockets open that its own requests come over.
   */
  release(keepChannels = false): void {
    const kept = keepChannels ? new Set(this.channels) : new Set<Fd>();
    for (const fd of this.#fresh) if (!kept.has(fd)) fd.close();
    this.#fresh = [...kept];
    if (!keepChannels) this.channels = [];
  }

  /** Forgets everything that a connection has brought. */
  endConnection(): void {
    this.release();
    this.#saved?.close();
    this.#saved = null;
    for (const fds of this.#kept.values()) for (const fd of fds) fd.close();
    this.#kept.clear();
  }

  [Symbol.dispose](): void {
    this.endConnection();
    for (const fd of this.#lasting.values()) fd.close();
    this.#lasting.clear();
  }
}

/** Writes small numbers here and there into a file that the back-end made. */
export function scribble(fd: Fd, random: Random): void {
  const { mode, size } = fd.stat();
  if ((mode & S_IFMT) !== S_IFREG || size === 0) return;
  using mapping = new Mapping(fd, size);
  const { u8 } = mapping.windows[0]!;
  for (let i = 0; i < 16; i++) u8[random.below(Math.min(size, 512))] = random.below(3);
}
