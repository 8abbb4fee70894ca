/** The driver's side of a split virtqueue, for tests: writes what a guest would write, or worse. */
import type { Queue, QueueOptions } from "../../core/queue.ts";
import { SplitQueue } from "../../core/split.ts";
import type { TestGuest } from "./guest.ts";

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

/** A buffer of guest memory in a chain. */
export interface Buffer {
  readonly address: number;
  readonly length: number;
  readonly writable: boolean;
}

export interface Descriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

/** A kind of ring. */
export type QueueClass = new (options: QueueOptions) => Queue;

/** What a queue is made with besides its place, unless a test says otherwise. */
export const queueDefaults = ({ memory }: TestGuest, size: number) => ({
  index: 0,
  name: "test",
  size,
  memory,
  indirect: true,
  eventIdx: false,
  call: () => {},
  requestPublish: () => {},
  requestDrain: () => {},
});

export interface DriverOptions {
  readonly size: number;
  /** Guest address of the descriptor table; the rings follow it, in memory of one region. */
  readonly at: number;
  /** The available index to begin with. */
  readonly base?: number;
  /** The used index found in the ring. */
  readonly used?: number;
  /** The byte order of the ring and its tables; true by default. */
  readonly littleEndian?: boolean;
}

export class DriverRing {
  readonly size: number;
  readonly littleEndian: boolean;
  readonly descriptors: DataView<ArrayBuffer>;
  readonly available: DataView<ArrayBuffer>;
  readonly used: DataView<ArrayBuffer>;
  /** Guest addresses. */
  readonly at: { readonly descriptor: number; readonly available: number; readonly used: number };
  /** Descriptors that are in no chain; the driver takes them from the end. */
  readonly free: number[];
  /** Entries put into the available ring, of which the device sees those before `shown`. */
  availableIndex: number;
  /** The used index up to which completions were taken. */
  usedIndex: number;
  readonly #guest: TestGuest;
  readonly #chains = new Map<number, number[]>();

  constructor(guest: TestGuest, options: DriverOptions) {
    const { size, at, base = 0, used = 0, littleEndian = true } = options;
    const available = at + 16 * size;
    const usedAt = available + ((6 + 2 * size + 3) & ~3);
    this.#guest = guest;
    this.size = size;
    this.littleEndian = littleEndian;
    this.at = { descriptor: at, available, used: usedAt };
    guest.fill(at, usedAt + 6 + 8 * size - at);
    this.descriptors = guest.view(at, 16 * size);
    this.available = guest.view(available, 6 + 2 * size);
    this.used = guest.view(usedAt, 6 + 8 * size);
    this.free = Array.from({ length: size }, (_, i) => size - 1 - i);
    this.availableIndex = base;
    this.usedIndex = used;
    this.show();
    this.used.setUint16(2, used, this.littleEndian);
  }

  /** A device queue on this ring. */
  queue(options: Partial<QueueOptions> = {}, Kind: QueueClass = SplitQueue): Queue {
    const { descriptor, available, used } = this.at;
    return new Kind({
      ...queueDefaults(this.#guest, this.size),
      descriptor: this.#guest.host(descriptor, 16 * this.size),
      available: this.#guest.host(available, 6 + 2 * this.size),
      used: this.#guest.host(used, 6 + 8 * this.size),
      base: this.availableIndex,
      ...options,
    });
  }

  describe(i: number, descriptor: Descriptor): void {
    writeDescriptor(this.descriptors, i, descriptor, this.littleEndian);
  }

  /**
   * Puts a chain into the descriptor table: the first `direct` buffers as descriptors of their own,
   * the rest in an indirect table at `table`. Returns its head; `push` and `show` make it available.
   */
  chain(buffers: readonly Buffer[], direct = buffers.length, table = 0): number {
    const rest = buffers.slice(direct);
    const count = direct + (rest.length > 0 ? 1 : 0);
    const indices = Array.from({ length: count }, () => this.free.pop()!);
    indices.forEach((index, i) => {
      const last = i === count - 1;
      const next = last ? 0 : indices[i + 1]!;
      const buffer = i < direct ? buffers[i]! : { address: table, length: rest.length * 16 };
      const kind = i < direct ? flagsOf(buffers[i]!) : INDIRECT;
      this.describe(index, { ...buffer, flags: kind | (last ? 0 : NEXT), next });
    });
    if (rest.length > 0) this.#guest.write(table, encodeTable(rest, this.littleEndian));
    this.#chains.set(indices[0]!, indices);
    return indices[0]!;
  }

  /** Fills the next entry of the available ring. */
  push(head: number): void {
    this.available.setUint16(4 + 2 * (this.availableIndex % this.size), head, this.littleEndian);
    this.availableIndex = (this.availableIndex + 1) % 65536;
  }

  /** Shows the device what was pushed. */
  show(): void {
    this.available.setUint16(2, this.availableIndex, this.littleEndian);
  }

  /** Makes one chain available. */
  offer(buffers: readonly Buffer[], direct = buffers.length, table = 0): number {
    const head = this.chain(buffers, direct, table);
    this.push(head);
    this.show();
    return head;
  }

  get shownUsed(): number {
    return this.used.getUint16(2, this.littleEndian);
  }

  /** The used element at an index. */
  usedElement(index: number): { id: number; length: number } {
    const at = 4 + 8 * (index % this.size);
    return {
      id: this.used.getUint32(at, this.littleEndian),
      length: this.used.getUint32(at + 4, this.littleEndian),
    };
  }

  /** The used elements that are shown and not taken. */
  shown(): { id: number; length: number }[] {
    const result = [];
    for (let i = this.usedIndex; i !== this.shownUsed; i = (i + 1) % 65536) {
      result.push(this.usedElement(i));
    }
    return result;
  }

  /** Takes the completions that are shown and frees their descriptors. */
  reap(): { id: number; length: number }[] {
    const elements = this.shown();
    for (const { id } of elements) {
      this.free.push(...(this.#chains.get(id) ?? []));
      this.#chains.delete(id);
    }
    this.usedIndex = (this.usedIndex + elements.length) % 65536;
    return elements;
  }

  /** avail.flags. */
  set availableFlags(value: number) {
    this.available.setUint16(0, value, this.littleEndian);
  }

  get availableFlags(): number {
    return this.available.getUint16(0, this.littleEndian);
  }

  set usedEvent(value: number) {
    this.available.setUint16(4 + 2 * this.size, value, this.littleEndian);
  }

  get usedEvent(): number {
    return this.available.getUint16(4 + 2 * this.size, this.littleEndian);
  }

  get usedFlags(): number {
    return this.used.getUint16(0, this.littleEndian);
  }

  get availEvent(): number {
    return this.used.getUint16(4 + 8 * this.size, this.littleEndian);
  }
}

const flagsOf = (buffer: Buffer) => (buffer.writable ? WRITE : 0);

export function writeDescriptor(
  table: DataView,
  i: number,
  { address, length, flags, next }: Descriptor,
  littleEndian = true,
): void {
  table.setBigUint64(16 * i, BigInt(address), littleEndian);
  table.setUint32(16 * i + 8, length, littleEndian);
  table.setUint16(16 * i + 12, flags, littleEndian);
  table.setUint16(16 * i + 14, next, littleEndian);
}

/** An indirect table whose descriptors follow one another. */
export function encodeTable(buffers: readonly Buffer[], littleEndian = true): Uint8Array {
  const bytes = new Uint8Array(buffers.length * 16);
  const view = new DataView(bytes.buffer);
  buffers.forEach((buffer, i) => {
    const last = i === buffers.length - 1;
    const flags = flagsOf(buffer) | (last ? 0 : NEXT);
    writeDescriptor(view, i, { ...buffer, flags, next: last ? 0 : i + 1 }, littleEndian);
  });
  return bytes;
}
