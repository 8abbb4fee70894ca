/**
 * The dirty log of live migration: one bit for each 4 KiB page of guest memory that was written to
 * (vhost-user: Migration). The front-end clears bits while we set them.
 */
import { type Fd, type Mapping, WINDOW_SIZE } from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";
import { Notifier } from "./notifier.ts";
import { mapSharedFile } from "./shared-file.ts";

const PAGE_SIZE = 4096;

export class DirtyLog implements Disposable {
  /** The mapping's whole words. Bytes would do, but the hottest code of Bun 1.4 sets wrong bits in those. */
  #words: Int32Array<ArrayBuffer> = new Int32Array(0);
  /** Bits of the mapping before the log, and pages that it has bits for. */
  #skip = 0;
  #pages = 0;
  #mapping: Mapping | null = null;
  /** Tells the front-end that there are new marks, if it wants to know. */
  readonly signal = new Notifier("log");

  /**
   * Uses `size` bytes from `offset` of a file from now on. Does not take `fd`. The log in use stays
   * when this throws `ProtocolError` or `SystemError`.
   */
  replace(fd: Fd, offset: number, size: number): void {
    if (size === 0 || size > WINDOW_SIZE) {
      throw new ProtocolError(`Cannot use a dirty log of ${size} bytes`);
    }
    const { mapping, skip } = mapSharedFile("a dirty log", fd, offset, size);
    const window = mapping.windows[0]!;
    if (skip + size > window.length) {
      // Only in files of huge pages, which are mapped from a boundary of theirs on.
      mapping[Symbol.dispose]();
      throw new ProtocolError(`Cannot use a dirty log of ${size} bytes at offset ${offset}`);
    }
    this.#unmap();
    this.#mapping = mapping;
    this.#words = window.i32;
    this.#skip = skip * 8;
    this.#pages = size * 8;
  }

  /** Marks the pages of `length` bytes at a guest-physical address, after they were written. */
  mark(physical: number, length: number): void {
    if (length === 0) return;
    const words = this.#words;
    const skip = this.#skip;
    const last = Math.min(Math.floor((physical + length - 1) / PAGE_SIZE), this.#pages - 1);
    for (let page = Math.floor(physical / PAGE_SIZE); page <= last; page++) {
      const bit = skip + page;
      // An atomic access even when the bit is set: it orders the data before what the front-end,
      // which clears the bit and then reads the page, sees.
      Atomics.or(words, Math.floor(bit / 32), 1 << (bit & 31));
    }
  }

  /** Forgets the log and its signal, as when a driver begins anew. */
  release(): void {
    this.#unmap();
    this.signal.replace(null);
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #unmap(): void {
    this.#words = new Int32Array(0);
    this.#pages = 0;
    this.#mapping?.[Symbol.dispose]();
    this.#mapping = null;
  }
}

/** Where a queue marks what it writes. Addresses are guest-physical. */
export interface RingLog {
  readonly log: DirtyLog;
  /** The used ring or the device's event area, or null when the front-end does not want it marked. */
  readonly ring: number | null;
  /** The descriptor ring of a packed virtqueue, which the device writes too. */
  readonly descriptors: number;
  /** Pages of a ring that an IOMMU has scattered: each write to it marks all of them. */
  readonly pages?: readonly number[];
}
