/** A front-end with a guest behind it: two regions of shared memory, vrings, and block requests. */
import { randomFillSync } from "node:crypto";
import { mask, RingFeature, VhostFeature } from "../../core/features.ts";
import { VringAddr, VringState } from "../../core/payloads.ts";
import { type FrontEndMessage, ProtocolFeature } from "../../core/protocol.ts";
import { RequestHeader, RequestType, Status } from "../../devices/blk/wire.ts";
import { createMemfd, type Fd, Mapping } from "../../ffi/mod.ts";
import { vringState as state } from "../../frontend/conform/wire.ts";
import {
  singleRegion as memRegion,
  memoryTable as memTable,
  type RegionFields,
} from "../../frontend/raw-regions.ts";
import { Client, type Outcome, u64 } from "./client.ts";
import { PackedRing } from "./packed-ring.ts";
import { AVAILABLE, type Descriptor, Ring, USED, WRITE } from "./ring.ts";

/** Two regions of this size, contiguous in guest addresses and far apart in user addresses. */
export const REGION_SIZE = 0x800000;
export const MEMORY_SIZE = 2 * REGION_SIZE;
/** A region's place; `offset` is the one in the guest's memfd and its guest address as well. */
export const regions = [
  { offset: 0, user: 0x7f10_0000_0000 },
  { offset: REGION_SIZE, user: 0x7f20_0000_0000 },
] as const;

export const RING_SIZE = 64;
/** Sectors that each queue's checks may overwrite. */
const ZONE_SECTORS = 64;
const CHECK_BYTES = 4096;

export const protocolMask = mask(
  ProtocolFeature.MQ,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.BACKEND_REQ,
  ProtocolFeature.CONFIG,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.STATUS,
);

export const baseFeatures = mask(RingFeature.VERSION_1, VhostFeature.PROTOCOL_FEATURES);
export const allRingFeatures =
  baseFeatures | mask(RingFeature.INDIRECT_DESC, RingFeature.EVENT_IDX);

/** The regions of the default table. */
export const defaultTable: readonly RegionFields[] = regions.map(({ offset, user }) => ({
  guest: offset,
  size: REGION_SIZE,
  user,
  offset,
}));

export { memRegion, memTable, type RegionFields, state };

/** The user address of a guest address in the default table. */
export function user(address: number): number {
  const region = regions[address < REGION_SIZE ? 0 : 1];
  return region.user + address - region.offset;
}

/** A SET_VRING_ADDR payload; `place` tells the user addresses of a ring's parts, by their offsets. */
export function vringAddresses(
  index: number,
  place: (offset: number) => number | bigint,
  flags = 0,
): Uint8Array {
  return VringAddr.encode({
    index,
    flags,
    descriptor: BigInt(place(0)),
    available: BigInt(place(AVAILABLE)),
    used: BigInt(place(USED)),
  });
}

export const ringAddresses = ({ index, base }: Ring): Uint8Array =>
  vringAddresses(index, (offset) => user(base + offset));

export interface GuestOptions {
  readonly queues?: number;
  readonly size?: number;
  readonly features?: bigint;
  /** Protocol features to accept; those of a block device by default. */
  readonly protocol?: bigint;
  readonly packed?: boolean;
  /** How far to go: features only, memory too, or up to running rings (the default). */
  readonly until?: "features" | "memory" | "running";
}

export interface BlockRequest {
  readonly type: number;
  readonly sector?: number | bigint;
  /** Data for the device. */
  readonly data?: Uint8Array;
  /** Bytes expected from the device, the status not counted. */
  readonly length?: number;
}

export class Guest implements Disposable {
  readonly client: Client;
  readonly memfd: Fd = createMemfd("bad-input-guest", MEMORY_SIZE);
  readonly memory: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly rings: Ring[];
  readonly #mapping: Mapping;

  constructor(path: string, options: GuestOptions = {}) {
    const { protocol = protocolMask } = options;
    const { queues = 2, size = RING_SIZE, packed = false, until } = options;
    const kind = packed ? mask(RingFeature.RING_PACKED) : 0n;
    const features = (options.features ?? allRingFeatures) | kind;
    const RingKind = packed ? PackedRing : Ring;
    this.#mapping = new Mapping(this.memfd, MEMORY_SIZE);
    this.memory = this.#mapping.windows[0]!.u8;
    this.view = this.#mapping.windows[0]!.data;
    this.memory.fill(0);
    this.rings = Array.from({ length: queues }, (_, i) => new RingKind(i, size, this.view));
    this.client = new Client(path);
    this.client.askU64("GET_FEATURES");
    this.client.send("SET_PROTOCOL_FEATURES", u64(protocol));
    this.must("SET_OWNER");
    this.must("SET_FEATURES", u64(features));
    if (until === "features") return;
    this.setMemory();
    if (until === "memory") return;
    this.startAll();
  }

  ring(index: number): Ring {
    return this.rings[index]!;
  }

  /** Sends a message that has to succeed. */
  must(message: FrontEndMessage, payload?: Uint8Array, fds?: readonly Fd[]): void {
    const outcome = this.client.ack(message, payload, fds);
    if (outcome !== "ok") throw new Error(`${message} was answered "${outcome}"`);
  }

  setMemory(): void {
    this.must("SET_MEM_TABLE", memTable(defaultTable), [this.memfd, this.memfd]);
  }

  /** Sets a ring up without its kick. */
  prepare(ring: Ring): void {
    ring.clear();
    this.must("SET_VRING_NUM", state(ring.index, ring.size));
    this.must("SET_VRING_BASE", state(ring.index, ring.emptyBase));
    this.must("SET_VRING_ADDR", ringAddresses(ring));
    this.must("SET_VRING_CALL", u64(ring.index), [ring.callFd]);
    this.must("SET_VRING_ERR", u64(ring.index), [ring.errFd]);
  }

  /** Runs verified requests on each ring. */
  verifyAll(): void {
    for (const ring of this.rings) this.verify(ring);
  }

  startAll(): void {
    for (const ring of this.rings) this.start(ring);
  }

  start(ring: Ring): void {
    this.prepare(ring);
    this.must("SET_VRING_KICK", u64(ring.index), [ring.kickFd]);
    this.must("SET_VRING_ENABLE", state(ring.index, 1));
  }

  /** Stops a ring and returns the index to go on from. */
  stop(ring: Ring): number {
    const reply = this.client.ask("GET_VRING_BASE", state(ring.index, 0));
    return VringState.decode(reply).num;
  }

  /** Stops a ring, which may be broken, and starts it empty. */
  restart(ring: Ring): void {
    this.stop(ring);
    ring.broken(0);
    this.start(ring);
  }

  /** Writes a request's header to a guest address. */
  header(address: number, type: number, sector: number | bigint = 0): void {
    this.view.setUint32(address + RequestHeader.type, type, true);
    this.view.setUint32(address + 4, 0, true);
    this.view.setBigUint64(address + RequestHeader.sector, BigInt(sector), true);
  }

  /** The buffers of a request in the ring's data area: header, data, status. */
  buffers(ring: Ring, { type, sector = 0, data, length }: BlockRequest): Descriptor[] {
    const at = ring.data;
    this.header(at, type, sector);
    this.memory[at + 16] = 0xff;
    const buffers: Descriptor[] = [{ address: at, length: RequestHeader.size }];
    if (data !== undefined) {
      this.memory.set(data, at + 4096);
      buffers.push({ address: at + 4096, length: data.length });
    }
    if (length !== undefined) buffers.push({ address: at + 4096, length, flags: WRITE });
    buffers.push({ address: at + 16, length: 1, flags: WRITE });
    return buffers;
  }

  /** Runs one request and returns its status, 0xff when the device wrote none. */
  io(ring: Ring, request: BlockRequest): number {
    ring.offer(ring.chain(0, this.buffers(ring, request)));
    ring.kick();
    if (!ring.complete()) throw new Error(`Queue ${ring.index} does not complete a request`);
    return this.memory[ring.data + 16]!;
  }

  /** The data area behind the request header, as `io` leaves it. */
  result(ring: Ring, length: number): Uint8Array {
    return this.memory.slice(ring.data + 4096, ring.data + 4096 + length);
  }

  /** Writes random data, flushes, reads it back and compares. Throws when anything is wrong. */
  verify(ring: Ring): void {
    const data = new Uint8Array(CHECK_BYTES);
    randomFillSync(data);
    const sector = ring.index * ZONE_SECTORS;
    const steps: BlockRequest[] = [
      { type: RequestType.OUT, sector, data },
      { type: RequestType.FLUSH },
      { type: RequestType.IN, sector, length: CHECK_BYTES },
    ];
    for (const step of steps) {
      if (step.length !== undefined) {
        this.memory.fill(0, ring.data + 4096, ring.data + 4096 + CHECK_BYTES);
      }
      const status = this.io(ring, step);
      if (status !== Status.OK) throw new Error(`Request type ${step.type} got status ${status}`);
    }
    const got = this.result(ring, CHECK_BYTES);
    if (got.some((byte, i) => byte !== data[i])) {
      throw new Error(`Queue ${ring.index} read back other data than it wrote`);
    }
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
    for (const ring of this.rings) ring[Symbol.dispose]();
    this.#mapping[Symbol.dispose]();
    this.memfd.close();
  }
}

/** The two ways to say no. */
export const denied: readonly Outcome[] = ["refused", "closed"];
