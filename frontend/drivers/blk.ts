/** A block driver over any number of queues (virtio 1.3, 5.2). */
import type { Static } from "typebox";
import { has, mask, RingFeature } from "../../core/features.ts";
import { BackEndError } from "../errors.ts";
import { type BackEndAddress, Frontend, type FrontendOptions } from "../frontend.ts";
import { ringFeatures } from "../negotiation.ts";
import type { VringOptions } from "../vring.ts";
import { DEFAULT_TIMEOUT, PollSet } from "../wait.ts";
import { BlkQueue, descriptorsPerRequest, type Framing } from "./blk-queue.ts";
import {
  BlkConfigSpace,
  BlkFeature,
  BlkRequest,
  BlkStatus,
  CONFIG_SIZE,
  ID_SIZE,
  RANGE_SIZE,
  RANGE_UNMAP,
  SECTOR,
  WRITEBACK_OFFSET,
} from "./blk-wire.ts";

export interface BlkOptions extends FrontendOptions {
  /** Vrings to use; 1 by default. */
  readonly queues?: number;
  /** Descriptors per ring; 128 by default. */
  readonly ringSize?: number;
  /** Requests in flight per queue; as many as fit the ring, up to 32, by default. */
  readonly depth?: number;
  /** Bytes of data per request at most; 64 KiB by default. */
  readonly maxBytes?: number;
  readonly framing?: Framing;
  /** Cut data into buffers of this many bytes; 0, the default, means one buffer. */
  readonly pieceSize?: number;
  /** Further settings of each vring. */
  readonly vring?: Partial<VringOptions>;
}

/** The device's config space. Sectors have 512 bytes. */
export type BlkConfig = Static<typeof BlkConfigSpace.schema>;

/** Sectors of a DISCARD or WRITE_ZEROES request. */
export interface SectorRange {
  readonly sector: number;
  readonly sectors: number;
}

/** Every feature that this driver understands; RO, too, which tells not to write. */
const blkFeatures = mask(...Object.values(BlkFeature)) | ringFeatures;

/** A request that the device answered with something else than OK. */
export class BlkError extends Error {
  /** A `BlkStatus`. */
  readonly status: number;

  constructor(request: string, status: number) {
    const name = Object.entries(BlkStatus).find(([, value]) => value === status)?.[0];
    super(`${request} failed with status ${name ?? status}`);
    this.name = "BlkError";
    this.status = status;
  }
}

export class BlkDriver implements Disposable {
  readonly frontend: Frontend;
  readonly queues: readonly BlkQueue[];
  readonly #poll: PollSet;

  /** Takes a front-end that has not been started, and starts it. */
  constructor(frontend: Frontend, options: BlkOptions = {}) {
    const { queues = 1, ringSize = 128, maxBytes = 65536, framing = "classic" } = options;
    const pieceSize = options.pieceSize ?? 0;
    const indirect = has(frontend.features, RingFeature.INDIRECT_DESC);
    const perRequest = indirect ? 1 : descriptorsPerRequest(framing, pieceSize, maxBytes);
    const fitting = Math.floor(ringSize / perRequest);
    const depth = options.depth ?? Math.min(32, fitting);
    if (depth < 1 || depth > fitting) {
      throw new RangeError(
        `Cannot keep ${depth} requests of ${perRequest} in a ring of ${ringSize}`,
      );
    }
    this.frontend = frontend;
    this.queues = Array.from({ length: queues }, (_, index) => {
      const vring = frontend.addVring(index, { ...options.vring, size: ringSize });
      const settings = { depth, maxBytes, indirect, framing, pieceSize };
      return new BlkQueue(vring, frontend.memory, settings);
    });
    this.#poll = new PollSet(queues + 1);
    frontend.start();
  }

  /** The byte order of requests; the config space is little-endian in any case. */
  get #littleEndian(): boolean {
    return !this.queues[0]!.vring.bigEndian;
  }

  /** Connects, and starts the device. */
  static connect(to: BackEndAddress, options: BlkOptions = {}): BlkDriver {
    const settings = { ...options, features: options.features ?? blkFeatures };
    const frontend = Frontend.open(to, settings);
    try {
      return new BlkDriver(frontend, settings);
    } catch (error) {
      frontend[Symbol.dispose]();
      throw error;
    }
  }

  /** Reads the config space. */
  config(): BlkConfig {
    const bytes = this.frontend.getConfig(0, CONFIG_SIZE);
    if (bytes === null) throw new BackEndError("refused", "The config space cannot be read");
    return BlkConfigSpace.decode(bytes);
  }

  /** Bytes of the disk. */
  size(): number {
    return Number(this.config().capacity) * SECTOR;
  }

  /** Switches the device's write cache on or off (needs CONFIG_WCE). */
  setWriteback(on: boolean): void {
    this.frontend.setConfig(WRITEBACK_OFFSET, Uint8Array.of(on ? 1 : 0));
  }

  /**
   * Carries one request out and returns its status, whatever it is. The data in the slot is `data`
   * before it, and `length` bytes are handed to `result` after it.
   */
  request(
    type: number,
    sector: number,
    length: number,
    { queue = 0, data, result }: RequestDetails = {},
  ): number {
    const on = this.queues[queue]!;
    const slot = on.acquire();
    if (slot < 0) throw new RangeError(`Cannot submit to queue ${queue}: all slots are in use`);
    if (data !== undefined) on.data(slot, data.length).set(data);
    on.submit(slot, type, sector, length);
    on.publish();
    if (!on.wait()) throw silent(type, sector);
    if (on.take() !== slot) throw new Error("Cannot mix single requests with others on one queue");
    const status = on.status(slot);
    result?.(on.data(slot, length));
    on.release(slot);
    return status;
  }

  /** Reads `length` bytes. */
  read(sector: number, length: number, queue = 0): Uint8Array<ArrayBuffer> {
    let copy = new Uint8Array(0);
    const result = (data: Uint8Array) => {
      copy = data.slice();
    };
    this.#expect("Reading", this.request(BlkRequest.IN, sector, length, { queue, result }));
    return copy;
  }

  write(sector: number, data: Uint8Array, queue = 0): void {
    this.#expect("Writing", this.request(BlkRequest.OUT, sector, data.length, { queue, data }));
  }

  flush(queue = 0): void {
    this.#expect("Flushing", this.request(BlkRequest.FLUSH, 0, 0, { queue }));
  }

  /** The disk's identifier: 20 bytes, padded with zeros. */
  id(): Uint8Array<ArrayBuffer> {
    let id = new Uint8Array(0);
    const result = (data: Uint8Array) => {
      id = data.slice();
    };
    this.#expect("GET_ID", this.request(BlkRequest.GET_ID, 0, ID_SIZE, { result }));
    return id;
  }

  discard(ranges: readonly SectorRange[]): void {
    const data = encodeRanges(ranges, 0, this.#littleEndian);
    this.#expect("DISCARD", this.request(BlkRequest.DISCARD, 0, data.length, { data }));
  }

  writeZeroes(ranges: readonly SectorRange[], unmap = false): void {
    const data = encodeRanges(ranges, unmap ? RANGE_UNMAP : 0, this.#littleEndian);
    this.#expect("WRITE_ZEROES", this.request(BlkRequest.WRITE_ZEROES, 0, data.length, { data }));
  }

  /**
   * Waits until some queue has a completion to take. False when none comes in time. `count` of them
   * may be waited for before a queue notifies, if EVENT_IDX is negotiated.
   */
  wait(milliseconds: number = DEFAULT_TIMEOUT, count = 1): boolean {
    if (this.queues.length === 1 && count === 1) return this.queues[0]!.wait(milliseconds);
    const end = performance.now() + milliseconds;
    while (!this.#arm(count)) {
      const left = Math.max(0, end - performance.now());
      const polled = this.queues.some(({ vring }) => !vring.notifies);
      if (polled && left > 0) continue;
      if (this.#poll.wait(left) === 0) return this.#silence(milliseconds);
      for (const [i, { vring }] of this.queues.entries()) {
        if (this.#poll.ready(i)) vring.call.take();
      }
      this.frontend.iommu?.serve();
    }
    for (const { vring } of this.queues) vring.ring.disableCalls();
    return true;
  }

  /** Asks all queues for notifications. Returns true when there is something to take already. */
  #arm(count: number): boolean {
    this.#poll.clear();
    let ready = false;
    for (const { vring, inFlight } of this.queues) {
      this.#poll.add(vring.call.reader.number);
      if (inFlight > 0 && vring.ring.enableCalls(Math.min(count, inFlight))) ready = true;
    }
    const fd = this.frontend.iommu?.fd;
    if (fd && !fd.closed) this.#poll.add(fd.number);
    return ready;
  }

  #silence(milliseconds: number): false {
    for (const { vring } of this.queues) {
      if (!vring.ring.ready) continue;
      const message = `Vring ${vring.index} has completions without a call`;
      throw new BackEndError("silent", `${message} after ${milliseconds} ms`);
    }
    return false;
  }

  #expect(request: string, status: number): void {
    if (status !== BlkStatus.OK) throw new BlkError(request, status);
  }

  [Symbol.dispose](): void {
    this.frontend[Symbol.dispose]();
  }
}

export interface RequestDetails {
  readonly queue?: number;
  readonly data?: Uint8Array;
  /** Gets the slot's data in place; it is valid during the call only. */
  readonly result?: (data: Uint8Array<ArrayBuffer>) => void;
}

/** The data of a DISCARD or WRITE_ZEROES request. */
export function encodeRanges(
  ranges: readonly SectorRange[],
  flags: number,
  littleEndian = true,
): Uint8Array {
  const bytes = new Uint8Array(ranges.length * RANGE_SIZE);
  const view = new DataView(bytes.buffer);
  ranges.forEach(({ sector, sectors }, i) => {
    view.setBigUint64(i * RANGE_SIZE, BigInt(sector), littleEndian);
    view.setUint32(i * RANGE_SIZE + 8, sectors, littleEndian);
    view.setUint32(i * RANGE_SIZE + 12, flags, littleEndian);
  });
  return bytes;
}

function silent(type: number, sector: number): BackEndError {
  const what = `request type ${type} at sector ${sector}`;
  return new BackEndError("silent", `The back-end did not complete ${what} in time`);
}
