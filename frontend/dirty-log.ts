/** The dirty log while a guest moves away, and the messages for it (vhost-user: Migration). */
import { LogArea } from "../core/payloads.ts";
import { frontEndMessages } from "../core/protocol.ts";
import { createMemfd, type Fd, Mapping } from "../ffi/mod.ts";
import type { Connection } from "./connection.ts";
import type { GuestMemory } from "./guest-memory.ts";
import type { Notifier } from "./notifier.ts";

const LOG_PAGE = 4096;

/** One bit for each page of guest memory, which back-ends set and the front-end takes. */
export class DirtyBits implements Disposable {
  readonly fd: Fd;
  /** Bytes of the log, and of its file before it. */
  readonly size: number;
  readonly offset: number;
  /** Whole words: Bun 1.4 goes wrong with `Atomics` on bytes. */
  readonly #words: Int32Array<ArrayBuffer>;
  readonly #mapping: Mapping;

  /** A log for guest addresses below `end`, at an offset of its file that is a multiple of 4. */
  constructor(end: number, offset = 0) {
    this.size = Math.ceil(end / LOG_PAGE / 32) * 4;
    this.offset = offset;
    this.fd = createMemfd("ringside-log", offset + this.size);
    this.#mapping = new Mapping(this.fd, offset + this.size);
    this.#words = this.#mapping.windows[0]!.i32.subarray(offset / 4, (offset + this.size) / 4);
  }

  /** A log for all of a guest's memory. */
  static of(memory: GuestMemory, offset = 0): DirtyBits {
    return new DirtyBits(Math.max(...memory.regions.map(({ end }) => end)), offset);
  }

  /** Takes all marks: numbers of pages, ascending. */
  take(): number[] {
    const pages: number[] = [];
    const words = this.#words;
    for (let at = 0; at < words.length; at++) {
      if (words[at] === 0) continue;
      // Orders the reading of the page, which follows, after the mark.
      const marks = Atomics.exchange(words, at, 0);
      for (let bit = 0; bit < 32; bit++) if (((marks >> bit) & 1) === 1) pages.push(at * 32 + bit);
    }
    return pages;
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.fd.close();
  }
}

/** Gives the back-end the log. */
export function sendLog(connection: Connection, { fd, size, offset }: DirtyBits): void {
  const payload = LogArea.encode({ size: BigInt(size), offset: BigInt(offset) });
  connection.request(frontEndMessages.SET_LOG_BASE, payload, [fd]);
}

/** Gives the back-end what to signal after it has set bits. */
export function sendLogSignal(connection: Connection, { writer }: Notifier): void {
  connection.command(frontEndMessages.SET_LOG_FD, undefined, [writer]);
}
