/** The part of an in-flight region for a split ring (vhost-user: Inflight I/O tracking). */
import { type InflightRecord, initialiseHeader, isInitialised, words16 } from "./inflight.ts";

/** Places in 16-bit words: of the header, and of a request's record after its first byte. */
const LAST_BATCH_HEAD = 6;
const USED_INDEX = 7;
const RECORDS = 8;
const RECORD_WORDS = 8;
const NEXT = 3;

/** The same in bytes and in 32-bit words. */
const FIRST_BYTE = 16;
const RECORD_BYTES = 16;
const COUNTER = 2;

export class SplitInflight implements InflightRecord {
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
    this.resumed = isInitialised(part);
    if (!this.resumed) initialiseHeader(part, queueSize);
    else this.#finishBatch(used);
    this.#u16[USED_INDEX] = used;
    this.replay = this.#recorded();
    this.#renumber();
    this.#counterLow = this.replay.length;
  }

  take(head: number): void {
    const counter = (head << 2) + (RECORDS >> 1) + COUNTER;
    this.#u32[counter] = this.#counterLow;
    this.#u32[counter + 1] = this.#counterHigh;
    this.#counterLow = (this.#counterLow + 1) >>> 0;
    if (this.#counterLow === 0) this.#counterHigh++;
    // After the number, before anything that the request does.
    Atomics.store(this.#bytes, FIRST_BYTE + head * RECORD_BYTES, 1);
  }

  putBack(head: number): void {
    Atomics.store(this.#bytes, FIRST_BYTE + head * RECORD_BYTES, 0);
  }

  complete(head: number): void {
    this.#u16[RECORDS + head * RECORD_WORDS + NEXT] = this.#u16[LAST_BATCH_HEAD]!;
    Atomics.store(this.#u16, LAST_BATCH_HEAD, head);
    this.#staged[this.#stagedCount++] = head;
  }

  published(used: number): void {
    for (let i = 0; i < this.#stagedCount; i++) {
      this.#bytes[FIRST_BYTE + this.#staged[i]! * RECORD_BYTES] = 0;
    }
    this.#stagedCount = 0;
    // Last: until then, a successor clears the batch itself.
    Atomics.store(this.#u16, USED_INDEX, used);
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

  #recorded(): number[] {
    const heads: number[] = [];
    for (let head = 0; head < this.#size; head++) {
      if (this.#bytes[FIRST_BYTE + head * RECORD_BYTES] !== 0) heads.push(head);
    }
    const counters = new Map(heads.map((head) => [head, this.#counterOf(head)]));
    return heads.sort((a, b) => counters.get(a)! - counters.get(b)!);
  }

  #counterOf(head: number): number {
    const at = (head << 2) + (RECORDS >> 1) + COUNTER;
    return this.#u32[at + 1]! * 2 ** 32 + this.#u32[at]!;
  }

  /** Numbers from 0 on keep the order, at each step, because no counter is below its rank. */
  #renumber(): void {
    this.replay.forEach((head, i) => {
      const at = (head << 2) + (RECORDS >> 1) + COUNTER;
      this.#u32[at] = i;
      this.#u32[at + 1] = 0;
    });
  }
}
