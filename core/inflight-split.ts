/**
 * The part of an in-flight region for a split ring (vhost-user: Inflight I/O tracking).
 *
 * Stores are plain: nobody reads a part while its back-end lives, so only the order of the program counts,
 * and the atomic store that shows a batch in the ring stands between those before and after it.
 */
import { announce, clearPart, isAnnounced, words16, words64 } from "./inflight.ts";

/** Places in 16-bit words: of the header, and of a request's record after its first byte. */
const LAST_BATCH_HEAD = 6;
const USED_INDEX = 7;
const RECORDS = 8;
const RECORD_WORDS = 8;
const NEXT = 3;

/** The same in bytes, in 32-bit and in 64-bit words. */
const FIRST_BYTE = 16;
const RECORD_BYTES = 16;
const COUNTER = 6;
const LONG_COUNTER = 3;

/** Requests are named by their heads. What is said of a request is in force before anything is done. */
export class SplitInflight {
  /** Requests to submit again, in the order in which they were taken. They are recorded already. */
  readonly replay: readonly number[];
  /** True when the part told of an earlier life of this ring: its used index is where to go on. */
  readonly resumed: boolean;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #u16: Uint16Array<ArrayBuffer>;
  readonly #u32: Uint32Array<ArrayBuffer>;
  readonly #size: number;
  /** Heads that the driver is about to see as used. Ours: what is in the region may change. */
  readonly #staged: Uint16Array<ArrayBuffer>;
  #stagedCount = 0;
  /** The number that the next request gets, in two halves. */
  #counterLow: number;
  #counterHigh = 0;

  /** `size`: descriptors in the ring; `used`: its used index as the driver sees it. */
  constructor(part: Uint8Array<ArrayBuffer>, queueSize: number, size: number, used: number) {
    this.#bytes = part;
    this.#u16 = words16(part);
    this.#u32 = new Uint32Array(part.buffer, part.byteOffset, part.length >> 2);
    this.#size = size;
    this.#staged = new Uint16Array(size);
    this.resumed = isAnnounced(part);
    if (!this.resumed) clearPart(part, queueSize);
    else this.#finishBatch(used);
    Atomics.store(this.#u16, USED_INDEX, used);
    if (!this.resumed) announce(part);
    this.replay = this.#recorded(words64(part));
    this.#counterLow = this.replay.length;
  }

  /** Says that a request is taken. */
  take(head: number): void {
    const counter = (head << 2) + COUNTER;
    this.#u32[counter] = this.#counterLow;
    this.#u32[counter + 1] = this.#counterHigh;
    this.#counterLow = (this.#counterLow + 1) >>> 0;
    if (this.#counterLow === 0) this.#counterHigh++;
    // After the number.
    this.#bytes[FIRST_BYTE + head * RECORD_BYTES] = 1;
  }

  /** Says that the request taken last is available again. */
  putBack(head: number): void {
    this.#bytes[FIRST_BYTE + head * RECORD_BYTES] = 0;
  }

  /** Says that a request is about to be shown to the driver as used. */
  complete(head: number): void {
    this.#u16[RECORDS + head * RECORD_WORDS + NEXT] = this.#u16[LAST_BATCH_HEAD]!;
    this.#u16[LAST_BATCH_HEAD] = head;
    this.#staged[this.#stagedCount++] = head;
  }

  /** Says that what `complete` announced is shown now. `used` is the ring's used index. */
  published(used: number): void {
    for (let i = 0; i < this.#stagedCount; i++) {
      this.#bytes[FIRST_BYTE + this.#staged[i]! * RECORD_BYTES] = 0;
    }
    this.#stagedCount = 0;
    // Last: until then, a successor clears the batch itself.
    this.#u16[USED_INDEX] = used;
  }

  /** Clears the records of requests that were shown as used and not yet recorded so. */
  #finishBatch(used: number): void {
    const missing = (used - this.#u16[USED_INDEX]!) & 0xffff;
    if (missing > this.#size) return;
    let head = this.#u16[LAST_BATCH_HEAD]!;
    for (let i = 0; i < missing && head < this.#size; i++) {
      this.#bytes[FIRST_BYTE + head * RECORD_BYTES] = 0;
      head = this.#u16[RECORDS + head * RECORD_WORDS + NEXT]!;
    }
  }

  /**
   * The recorded requests, oldest first. Numbers them from 0 on, which keeps the order at each step
   * because no number is below its request's rank.
   */
  #recorded(words: BigUint64Array<ArrayBuffer>): number[] {
    const requests: { readonly head: number; readonly counter: bigint }[] = [];
    for (let head = 0; head < this.#size; head++) {
      if (this.#bytes[FIRST_BYTE + head * RECORD_BYTES] === 0) continue;
      requests.push({ head, counter: words[2 * head + LONG_COUNTER]! });
    }
    requests.sort((a, b) => (a.counter < b.counter ? -1 : a.counter > b.counter ? 1 : 0));
    requests.forEach(({ head }, rank) => {
      words[2 * head + LONG_COUNTER] = BigInt(rank);
    });
    return requests.map(({ head }) => head);
  }
}
