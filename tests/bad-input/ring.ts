/** The driver's side of one split virtqueue, field by field, so that each can be wrong. */
import { acknowledge, createEventFd, type Fd, signal } from "../../ffi/mod.ts";
import { ANSWER_LIMIT, readable, sleep } from "./client.ts";

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

/** Offsets of a ring's parts from its start; room for 1024 descriptors, then 64 KiB of data. */
export const AVAILABLE = 0x8000;
export const USED = 0xa000;
export const DATA = 0x10000;
export const RING_STRIDE = 0x20000;

export interface Descriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

/** Writes a descriptor of a table at `at`. */
export function describe(
  view: DataView,
  at: number,
  { address, length, flags = 0, next = 0 }: Descriptor,
): void {
  view.setBigUint64(at, BigInt(address), true);
  view.setUint32(at + 8, length, true);
  view.setUint16(at + 12, flags, true);
  view.setUint16(at + 14, next, true);
}

export class Ring implements Disposable {
  readonly packed: boolean = false;
  /** The base of a ring that nobody has used. */
  readonly emptyBase: number = 0;
  readonly index: number;
  readonly size: number;
  /** Guest address of the ring, and of the data area behind it. */
  readonly base: number;
  readonly data: number;
  readonly kickFd: Fd = createEventFd();
  readonly callFd: Fd = createEventFd();
  readonly errFd: Fd = createEventFd();
  /** The used index up to which completions were taken. */
  seen = 0;
  readonly view: DataView<ArrayBuffer>;
  readonly words: Uint16Array<ArrayBuffer>;

  /** `view` shows guest memory from address 0 on. */
  constructor(
    index: number,
    size: number,
    view: DataView<ArrayBuffer>,
    base = index * RING_STRIDE,
  ) {
    this.index = index;
    this.size = size;
    this.base = base;
    this.data = this.base + DATA;
    this.view = view;
    this.words = new Uint16Array(view.buffer, view.byteOffset, view.byteLength >> 1);
  }

  /** Clears the ring, as a driver does before it hands it over. */
  clear(): void {
    new Uint8Array(this.view.buffer, this.view.byteOffset + this.base, DATA).fill(0);
    this.seen = 0;
  }

  get availableIndex(): number {
    return this.words[(this.base + AVAILABLE + 2) >> 1]!;
  }

  set availableIndex(value: number) {
    Atomics.store(this.words, (this.base + AVAILABLE + 2) >> 1, value & 0xffff);
  }

  set usedIndex(value: number) {
    Atomics.store(this.words, (this.base + USED + 2) >> 1, value & 0xffff);
  }

  get usedIndex(): number {
    return Atomics.load(this.words, (this.base + USED + 2) >> 1);
  }

  set availableFlags(value: number) {
    this.words[(this.base + AVAILABLE) >> 1] = value;
  }

  set usedEvent(value: number) {
    this.words[(this.base + AVAILABLE + 4 + 2 * this.size) >> 1] = value;
  }

  set availEvent(value: number) {
    this.words[(this.base + USED + 4 + 8 * this.size) >> 1] = value;
  }

  used(index: number): { id: number; length: number } {
    const at = this.base + USED + 4 + 8 * (index % this.size);
    return { id: this.view.getUint32(at, true), length: this.view.getUint32(at + 4, true) };
  }

  descriptor(i: number, descriptor: Descriptor): void {
    describe(this.view, this.base + 16 * i, descriptor);
  }

  /** Writes a chain of direct descriptors from slot `first` on. */
  chain(first: number, buffers: readonly Descriptor[]): number {
    buffers.forEach((buffer, i) => {
      const more = i + 1 < buffers.length;
      const flags = (buffer.flags ?? 0) | (more ? NEXT : 0);
      this.descriptor(first + i, { ...buffer, flags, next: more ? first + i + 1 : 0 });
    });
    return first;
  }

  /** Makes heads available, without a kick. */
  offer(...heads: number[]): void {
    const start = this.availableIndex;
    heads.forEach((head, i) => {
      const slot = (start + i) % this.size;
      this.view.setUint16(this.base + AVAILABLE + 4 + 2 * slot, head, true);
    });
    this.availableIndex = start + heads.length;
  }

  kick(): void {
    signal(this.kickFd.number);
  }

  /** Waits until `count` chains more are used and takes them. False when they do not come. */
  complete(count = 1, limit = ANSWER_LIMIT): boolean {
    const until = performance.now() + limit;
    for (let spins = 0; ((this.usedIndex - this.seen) & 0xffff) < count; spins++) {
      if (performance.now() > until) return false;
      if (spins > 200) sleep(1);
    }
    this.seen = (this.seen + count) & 0xffff;
    return true;
  }

  /** True when the back-end says that the ring is broken. */
  broken(limit = ANSWER_LIMIT): boolean {
    if (!readable(this.errFd, limit)) return false;
    acknowledge(this.errFd.number);
    return true;
  }

  [Symbol.dispose](): void {
    for (const fd of [this.kickFd, this.callFd, this.errFd]) fd.close();
  }
}
