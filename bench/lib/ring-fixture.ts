/**
 * A driver's split ring with a batch of block requests laid out in shared memory, for measuring how
 * fast a device walks it. Making the batch available again costs one store.
 *
 * Guest memory has three regions. Rings, headers and status bytes lie in the first one; the data
 * buffers are spread over all three, so that translation has to look for the region.
 */
import { Access, type AddressSpace } from "../../core/address-space.ts";
import { Iotlb } from "../../core/iotlb.ts";
import { GuestMemory, type RegionSpec } from "../../core/memory.ts";
import type { Queue, QueueOptions } from "../../core/queue.ts";
import { SplitQueue } from "../../core/split.ts";
import { splitRingBytes } from "../../core/split-format.ts";
import { createMemfd } from "../../ffi/mod.ts";

/** Requests made available at once. It divides the ring's size, so that slots repeat. */
export const BATCH = 64;
export const RING_SIZE = 256;
export const DATA_SIZE = 4096;
/** Descriptors of a request: header, data, status. */
export const CHAIN_LENGTH = 3;
/** Bytes of the disk that the requests read from. */
export const CAPACITY = 64 * 2 ** 20;

const ENTRY_SIZE = 4096;
const REGION_SIZE = 4 * 2 ** 20;
const USER_BASE = 0x7000_0000_0000;
const GUEST_BASES = [0, 0x1_0000_0000, 0x40_0000_0000];
/** Types of block requests (virtio 1.3, 5.2.6). */
const IN = 0;
const OUT = 1;
/** Flags of descriptors (virtio 1.3, 2.7.5). */
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** Places in the first region, in bytes. */
export const DESCRIPTORS = 0x1000;
const AVAILABLE = 0x3000;
const USED = 0x4000;
const TABLES = 0x6000;
const HEADERS = 0x10000;
const STATUS = 0x20000;
const DATA = 0x100000;

export interface RingAddresses {
  readonly descriptor: number;
  readonly available: number;
  readonly used: number;
}

export interface QueuePlace {
  readonly size: number;
  readonly memory: AddressSpace;
  readonly addresses: RingAddresses;
  readonly base: number;
}

/** What queues of both kinds are made with. */
export const queueOptions = (
  { size, memory, addresses, base }: QueuePlace,
  call: () => void,
): QueueOptions => ({
  index: 0,
  name: "bench",
  size,
  memory,
  ...addresses,
  base,
  indirect: true,
  eventIdx: true,
  call,
  requestPublish: () => {},
  requestDrain: () => {},
});

/** A queue as its owner has it while it drains it: nothing is published but by the caller. */
export function draining<Q extends Queue>(queue: Q): Q {
  queue.draining = true;
  return queue;
}

export interface RingFixtureOptions {
  /** Each request is a table of its own. */
  readonly indirect?: boolean;
  /** The requests write to the disk instead of reading from it. */
  readonly write?: boolean;
  /** In place of requests: broadcast frames that a network driver sends, of so many bytes. */
  readonly frames?: number;
  /** Buffers are found by IOTLB entries of 4 KiB. */
  readonly iommu?: boolean;
}

export class RingFixture implements Disposable {
  readonly memory = new GuestMemory();
  readonly indirect: boolean;
  readonly #space: AddressSpace;
  readonly #write: boolean;
  readonly #frames: number | null;
  /** Process addresses of the ring's parts. */
  readonly addresses: RingAddresses;
  readonly #first: DataView<ArrayBuffer>;
  readonly #available: Uint16Array<ArrayBuffer>;
  #next = 0;

  constructor(options: RingFixtureOptions = {}) {
    const { indirect = false, iommu = false, frames = null } = options;
    this.indirect = indirect;
    this.#frames = frames;
    this.#write = options.write ?? frames !== null;
    this.#share();
    this.#space = iommu ? this.#makeIotlb() : this.memory;
    const { host } = this.memory.regions[0]!;
    const { data } = this.memory.find(GUEST_BASES[0]!)!;
    this.#first = data;
    this.#available = new Uint16Array(
      data.buffer,
      data.byteOffset + AVAILABLE,
      splitRingBytes(RING_SIZE).available / 2,
    );
    this.addresses = {
      descriptor: host + DESCRIPTORS,
      available: host + AVAILABLE,
      used: host + USED,
    };
    for (let i = 0; i < BATCH; i++) this.#writeRequest(i);
    for (let slot = 0; slot < RING_SIZE; slot++) {
      const request = slot % BATCH;
      this.#available[2 + slot] = indirect ? request : request * CHAIN_LENGTH;
    }
  }

  /** The device's side of this ring, which starts where the driver stands. */
  makeQueue(onCall: () => void, index = 0): SplitQueue {
    const { addresses, indirect } = this;
    const place = { size: RING_SIZE, memory: this.#space, addresses, base: this.#next };
    return draining(new SplitQueue({ ...queueOptions(place, onCall), indirect, index }));
  }

  /** Makes a whole batch available. */
  offer(): void {
    this.#next = (this.#next + BATCH) & 0xffff;
    Atomics.store(this.#available, 1, this.#next);
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }

  #makeIotlb(): Iotlb {
    const iotlb = new Iotlb(this.memory);
    for (const base of GUEST_BASES) {
      for (let at = base; at < base + REGION_SIZE; at += ENTRY_SIZE) {
        iotlb.set(at, ENTRY_SIZE, USER_BASE + at, Access.READ | Access.WRITE);
      }
    }
    return iotlb;
  }

  #share(): void {
    const specs: RegionSpec[] = GUEST_BASES.map((guestAddress, i) => ({
      guestAddress,
      size: REGION_SIZE,
      userAddress: USER_BASE + guestAddress,
      mmapOffset: i * REGION_SIZE,
    }));
    const fd = createMemfd("ringside-bench", REGION_SIZE * specs.length);
    try {
      this.memory.replace(
        specs,
        specs.map(() => fd),
      );
    } finally {
      fd.close();
    }
  }

  #writeRequest(i: number): void {
    const header = HEADERS + i * 64;
    const data = GUEST_BASES[i % GUEST_BASES.length]! + DATA + i * DATA_SIZE;
    // What a header of a frame asks for is nothing.
    if (this.#frames !== null) this.#broadcast(data);
    else {
      // Each has sectors of its own; status bytes lie on cache lines of their own, as with drivers.
      this.#first.setUint32(header, this.#write ? OUT : IN, true);
      this.#first.setUint32(header + 8, (i * DATA_SIZE) / 512, true);
    }
    const [head, length] = this.#frames === null ? [16, DATA_SIZE] : [12, this.#frames];
    const table = this.indirect ? TABLES + i * CHAIN_LENGTH * 16 : DESCRIPTORS;
    const base = this.indirect ? 0 : i * CHAIN_LENGTH;
    this.#descriptor(table, base, header, head, NEXT, base + 1);
    this.#descriptor(table, base + 1, data, length, NEXT | (this.#write ? 0 : WRITE), base + 2);
    this.#descriptor(table, base + 2, STATUS + i * 64, 1, WRITE, 0);
    if (this.indirect) this.#descriptor(DESCRIPTORS, i, table, CHAIN_LENGTH * 16, INDIRECT, 0);
  }

  /** Makes everybody the target of the frame at a guest address. */
  #broadcast(frame: number): void {
    const { data, origin } = this.memory.find(frame)!;
    data.setUint32(frame - origin, 0xffffffff);
    data.setUint16(frame - origin + 4, 0xffff);
  }

  #descriptor(
    table: number,
    index: number,
    address: number,
    length: number,
    flags: number,
    next: number,
  ): void {
    const at = table + index * 16;
    this.#first.setUint32(at, address >>> 0, true);
    this.#first.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
    this.#first.setUint32(at + 8, length, true);
    this.#first.setUint16(at + 12, flags, true);
    this.#first.setUint16(at + 14, next, true);
  }
}
