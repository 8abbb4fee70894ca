/** What a block device stores its data in. */
import type { Chain } from "../../core/chain.ts";
import type { Iovecs } from "../../ffi/mod.ts";
import type { Background } from "./background.ts";

/** 0 for success, a negative error number otherwise; a promise of that from an async store. */
export type StoreResult = number | Promise<number>;

/** The part of a request's buffers that holds data. */
export interface Transfer {
  /** Bytes to move. */
  readonly length: number;
  /** Adds the data from byte `at` on to `iovecs`, as much as fits. */
  iovecs(iovecs: Iovecs, at: number): void;
  /**
   * Copies what is to be written, from byte `at` on. For stores that work on bytes. Throws when the
   * request was given up meanwhile.
   */
  copyOut(into: Uint8Array, at?: number): void;
  /** Delivers what was read, from byte `at` on. */
  copyIn(from: Uint8Array, at?: number): void;
}

/**
 * A place for blocks. Offsets and lengths are in bytes, lie within `size`, and are multiples of the
 * logical block size. Requests may overlap in time; a driver that cares orders them itself.
 */
export interface Store extends Disposable {
  /** Capacity in bytes. */
  size: number;
  readonly readOnly: boolean;
  /** The unit the storage writes at once, in bytes. */
  readonly physicalBlockSize: number;
  /** True when results may be promises; the requests are then held. */
  readonly async?: boolean;
  /** Carries out what would make a store wait that is not async. */
  readonly background?: Background | null;
  read(transfer: Transfer, offset: number): StoreResult;
  write(transfer: Transfer, offset: number): StoreResult;
  /** Makes everything written so far durable. */
  flush(): StoreResult;
  /** Frees the storage of a range, whose contents are undefined afterwards. */
  discard?(offset: number, length: number): StoreResult;
  /** Makes a range read as zeros; may free its storage when `unmap`. */
  writeZeroes?(offset: number, length: number, unmap: boolean): StoreResult;
  /** Looks how large the storage is now. */
  measure?(): number;
}

/** A chain's data buffers as a `Transfer`. One object serves all requests, one at a time. */
export class ChainTransfer implements Transfer {
  length = 0;
  #chain: Chain | null = null;
  #start = 0;
  #writable = false;

  /** Selects `length` bytes from `start` of the device-writable or device-readable buffers. */
  select(chain: Chain, start: number, length: number, writable: boolean): this {
    this.#chain = chain;
    this.length = length;
    this.#start = start;
    this.#writable = writable;
    return this;
  }

  iovecs(iovecs: Iovecs, at: number): void {
    const start = this.#start + at;
    const length = this.length - at;
    if (this.#writable) this.#chain!.writableIovecs(iovecs, start, length);
    else this.#chain!.readableIovecs(iovecs, start, length);
  }

  copyOut(into: Uint8Array, at = 0): void {
    const part = into.subarray(0, this.length - at);
    // What was not copied must not be stored for it.
    if (this.#chain!.read(part, this.#start + at) !== part.length) {
      throw new Error("Cannot copy a request's data: its queue has ended");
    }
  }

  copyIn(from: Uint8Array, at = 0): void {
    this.#chain!.write(from.subarray(0, this.length - at), this.#start + at);
  }
}
