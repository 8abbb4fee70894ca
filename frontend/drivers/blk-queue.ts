/**
 * Requests of a block driver on one vring.
 *
 * Each request has a slot with memory of its own for header, data, status and indirect table, so
 * that submitting and completing allocates nothing.
 */
import { ByteOrder } from "../byte-order.ts";
import { BackEndError } from "../errors.ts";
import type { GuestMemory } from "../guest-memory.ts";
import type { Vring } from "../vring.ts";
import { DEFAULT_TIMEOUT } from "../wait.ts";
import { BlkRequest, BlkStatus, HEADER_SIZE } from "./blk-wire.ts";

/**
 * How a request is cut into buffers; the device must take any cut (virtio 1.3, 2.7.4).
 * - `classic`: header, data, status.
 * - `joined`: two buffers; what is next to each other in memory is one.
 * - `scattered`: a header of 1 and 15 bytes, data in pieces, status.
 */
export type Framing = "classic" | "joined" | "scattered";

export interface BlkQueueOptions {
  /** Requests in flight at most. */
  readonly depth: number;
  /** Bytes of data per request at most. */
  readonly maxBytes: number;
  readonly indirect: boolean;
  readonly framing?: Framing;
  /** Cut data into buffers of this many bytes; 0, the default, means one buffer. */
  readonly pieceSize?: number;
}

/** What the status byte holds until the device has written it. */
const UNWRITTEN = 0xee;
const PAGE = 4096;

export class BlkQueue {
  readonly vring: Vring;
  readonly depth: number;
  readonly maxBytes: number;
  /** Completions whose length is not the bytes that the device had to write. */
  oddLengths = 0;

  readonly #bytes: ByteOrder;
  readonly #framing: Framing;
  readonly #pieceSize: number;
  readonly #indirect: boolean;
  readonly #slotBytes: number;
  readonly #tableBytes: number;

  /** All slots' memory, and its guest address. */
  readonly #area: Uint8Array<ArrayBuffer>;
  readonly #base: number;
  readonly #headers: Uint32Array<ArrayBuffer>;
  readonly #tables: number;

  readonly #free: Int32Array;
  #freeCount: number;
  readonly #type: Uint32Array;
  readonly #length: Uint32Array;
  readonly #statusAt: Int32Array;
  /** The slots' data as words, made when first asked for. */
  readonly #words: Uint32Array<ArrayBuffer>[] = [];
  /** Guest addresses of data that lies elsewhere; 0 where it lies in the slot. */
  readonly #elsewhere: Float64Array;

  constructor(vring: Vring, memory: GuestMemory, options: BlkQueueOptions) {
    const { depth, maxBytes, indirect, framing = "classic", pieceSize = 0 } = options;
    this.vring = vring;
    this.#bytes = new ByteOrder(vring.bigEndian);
    this.depth = depth;
    this.maxBytes = maxBytes;
    this.#framing = framing;
    this.#pieceSize = pieceSize;
    this.#indirect = indirect;
    // Data begins on a page, its header right before it; status and padding follow.
    this.#slotBytes = PAGE + Math.ceil((maxBytes + 1) / PAGE) * PAGE;
    this.#base = memory.allocate(depth * this.#slotBytes, PAGE);
    this.#area = memory.bytes(this.#base, depth * this.#slotBytes);
    this.#headers = new Uint32Array(this.#area.buffer, this.#area.byteOffset);
    this.#tableBytes = 16 * this.descriptorsPerRequest;
    this.#tables = indirect ? memory.allocate(depth * this.#tableBytes) : 0;
    this.#free = Int32Array.from({ length: depth }, (_, i) => depth - 1 - i);
    this.#freeCount = depth;
    this.#type = new Uint32Array(depth);
    this.#length = new Uint32Array(depth);
    this.#statusAt = new Int32Array(depth);
    this.#elsewhere = new Float64Array(depth);
  }

  /** The most buffers that a request is cut into. */
  get descriptorsPerRequest(): number {
    return descriptorsPerRequest(this.#framing, this.#pieceSize, this.maxBytes);
  }

  /** Requests submitted and not completed. */
  get inFlight(): number {
    return this.vring.ring.inFlight;
  }

  /** Takes a free slot, -1 when there is none. */
  acquire(): number {
    return this.#freeCount === 0 ? -1 : this.#free[--this.#freeCount]!;
  }

  /** Gives a slot back. */
  release(slot: number): void {
    this.#elsewhere[slot] = 0;
    this.#free[this.#freeCount++] = slot;
  }

  /** The slot's own data buffer. */
  data(slot: number, length: number = this.maxBytes): Uint8Array<ArrayBuffer> {
    const at = this.#dataOffset(slot);
    return this.#area.subarray(at, at + length);
  }

  /** The slot's own data buffer as 32-bit words. */
  words(slot: number): Uint32Array<ArrayBuffer> {
    const at = this.#area.byteOffset + this.#dataOffset(slot);
    this.#words[slot] ??= new Uint32Array(this.#area.buffer, at, this.maxBytes >> 2);
    return this.#words[slot];
  }

  /** Lets the slot's next request use memory at `address` for its data. */
  place(slot: number, address: number): void {
    this.#elsewhere[slot] = address;
  }

  /** The guest address of the slot's data. */
  address(slot: number): number {
    return this.#elsewhere[slot]! || this.#base + this.#dataOffset(slot);
  }

  /** Puts a request into the ring; `publish` shows it. `length` counts bytes of data. */
  submit(slot: number, type: number, sector: number, length: number): void {
    const writes = type === BlkRequest.IN || type === BlkRequest.GET_ID;
    this.#type[slot] = type;
    this.#length[slot] = length;
    const header = this.#dataOffset(slot) - HEADER_SIZE;
    const word = header >> 2;
    this.#headers[word] = this.#bytes.word(type);
    this.#headers[word + 1] = 0;
    this.#bytes.setU64(this.#headers, word + 2, sector >>> 0, Math.floor(sector / 4294967296));
    this.#cut(slot, this.#base + header, length, writes);
    const { ring } = this.vring;
    const table = this.#tables + slot * this.#tableBytes;
    const head = this.#indirect ? ring.addIndirect(table, slot) : ring.add(slot);
    if (head < 0) throw new RangeError(`Cannot submit: the ring of ${ring.size} is full`);
  }

  publish(): void {
    this.vring.publish();
  }

  /** Takes the next completion. Returns its slot, which the caller releases, or -1. */
  take(): number {
    const { ring } = this.vring;
    if (!ring.next()) return -1;
    const slot = ring.token;
    const status = this.status(slot);
    if (status === UNWRITTEN) {
      throw new BackEndError("malformed", `Chain ${ring.head} was completed without a status`);
    }
    const type = this.#type[slot]!;
    const writes = type === BlkRequest.IN || type === BlkRequest.GET_ID;
    const expected = (writes ? this.#length[slot]! : 0) + 1;
    if (status === BlkStatus.OK && ring.written !== expected) this.oddLengths++;
    return slot;
  }

  /** Waits for a completion to take. False when none comes in time. */
  wait(milliseconds: number = DEFAULT_TIMEOUT): boolean {
    return this.vring.wait(milliseconds);
  }

  status(slot: number): number {
    return this.#area[this.#statusAt[slot]!]!;
  }

  #dataOffset(slot: number): number {
    return slot * this.#slotBytes + PAGE;
  }

  /** Builds the chain of a request. */
  #cut(slot: number, header: number, length: number, writes: boolean): void {
    const { ring } = this.vring;
    const own = this.#elsewhere[slot] === 0;
    const data = this.address(slot);
    const joined = this.#framing === "joined" && own;
    const statusAt = this.#dataOffset(slot) + (joined && writes ? length : this.maxBytes);
    this.#statusAt[slot] = statusAt;
    this.#area[statusAt] = UNWRITTEN;
    ring.clear();
    if (joined) {
      ring.push(header, HEADER_SIZE + (writes ? 0 : length), false);
      if (writes) ring.push(data, length + 1, true);
      else ring.push(this.#base + statusAt, 1, true);
      return;
    }
    if (this.#framing === "scattered") {
      ring.push(header, 1, false);
      ring.push(header + 1, HEADER_SIZE - 1, false);
    } else ring.push(header, HEADER_SIZE, false);
    const piece = this.#pieceSize || length;
    for (let done = 0; done < length; done += piece) {
      ring.push(data + done, Math.min(piece, length - done), writes);
    }
    ring.push(this.#base + statusAt, 1, true);
  }
}

/** The most buffers that a request of `maxBytes` is cut into. */
export function descriptorsPerRequest(
  framing: Framing,
  pieceSize: number,
  maxBytes: number,
): number {
  if (framing === "joined") return 2;
  const pieces = pieceSize === 0 ? 1 : Math.ceil(maxBytes / pieceSize);
  return (framing === "scattered" ? 3 : 2) + pieces;
}
