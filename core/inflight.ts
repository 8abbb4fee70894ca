/**
 * In-flight regions: what a device was doing when its back-end ended without warning, in memory that
 * the front-end keeps (vhost-user: Inflight I/O tracking).
 *
 * The next back-end submits the recorded requests again, in the order in which they were taken. Each
 * record is written so that ending between any two stores loses no request and repeats none that the
 * driver has seen completed.
 */
import { createMemfd, type Fd, type Mapping, WINDOW_SIZE } from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";
import { mapSharedFile } from "./shared-file.ts";

export const INFLIGHT_VERSION = 1;
/** The parts of queues begin at multiples of this. */
const ALIGNMENT = 64;
const SPLIT = { header: 16, record: 16 } as const;
const PACKED = { header: 32, record: 32 } as const;

/** The header that both formats begin with: places in 16-bit words. */
const VERSION = 4;
const DESC_NUM = 5;

/** Bytes of the part of one queue. */
export function inflightQueueBytes(queueSize: number, packed: boolean): number {
  const { header, record } = packed ? PACKED : SPLIT;
  return Math.ceil((header + record * queueSize) / ALIGNMENT) * ALIGNMENT;
}

/** The shape of a region. Sizes and offsets in bytes. */
export interface InflightShape {
  readonly size: number;
  readonly offset: number;
  readonly queues: number;
  readonly queueSize: number;
}

/** Makes the memory of a region; zeros say that nothing was recorded yet. The caller owns it. */
export function createInflight(
  queues: number,
  queueSize: number,
  packed: boolean,
): { readonly fd: Fd; readonly shape: InflightShape } {
  const size = queues * inflightQueueBytes(queueSize, packed);
  checkSize(size);
  return {
    fd: createMemfd("ringside-inflight", size),
    shape: { size, offset: 0, queues, queueSize },
  };
}

function checkSize(size: number): void {
  if (size > WINDOW_SIZE / 2) {
    throw new ProtocolError(`Cannot use an in-flight region of ${size} bytes`);
  }
}

export class InflightRegion implements Disposable {
  readonly shape: InflightShape;
  readonly packed: boolean;
  readonly #mapping: Mapping;
  readonly #start: number;

  /**
   * Does not take `fd`. Throws `ProtocolError` when the region is too small for its shape or is of a
   * version that we do not know.
   */
  constructor(fd: Fd, shape: InflightShape, packed: boolean) {
    const { size, offset, queues, queueSize } = shape;
    const needed = queues * inflightQueueBytes(queueSize, packed);
    checkSize(size);
    if (offset % ALIGNMENT !== 0) {
      throw new ProtocolError(`Cannot use an in-flight region at offset ${offset} of its file`);
    }
    if (size < needed) {
      throw new ProtocolError(
        `Cannot use an in-flight region of ${size} bytes: ${queues} queues of ${queueSize} ` +
          `need ${needed}`,
      );
    }
    const { mapping, skip } = mapSharedFile("an in-flight region", fd, offset, size);
    this.shape = shape;
    this.packed = packed;
    this.#mapping = mapping;
    this.#start = skip;
    try {
      for (let index = 0; index < queues; index++) this.#checkHeader(index);
    } catch (error) {
      mapping[Symbol.dispose]();
      throw error;
    }
  }

  /** The memory of one queue's part. Throws `ProtocolError` when there is none for such a ring. */
  part(index: number, ringSize: number, packed: boolean): Uint8Array<ArrayBuffer> {
    const { queues, queueSize } = this.shape;
    if (index >= queues || ringSize > queueSize || packed !== this.packed) {
      const kind = (packed: boolean) => (packed ? "packed" : "split");
      throw new ProtocolError(
        `Cannot start the ${kind(packed)} vring ${index} of ${ringSize} descriptors: the in-flight ` +
          `region is for ${queues} ${kind(this.packed)} rings of ${queueSize}`,
      );
    }
    return this.#part(index);
  }

  #part(index: number): Uint8Array<ArrayBuffer> {
    const { queueSize } = this.shape;
    const bytes = inflightQueueBytes(queueSize, this.packed);
    const start = this.#start + index * bytes;
    return this.#mapping.windows[0]!.u8.subarray(start, start + bytes);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }

  #checkHeader(index: number): void {
    const words = words16(this.#part(index));
    const version = words[VERSION]!;
    if (version !== 0 && version !== INFLIGHT_VERSION) {
      throw new ProtocolError(`Cannot use an in-flight region of version ${version}`);
    }
    if (version !== 0 && words[DESC_NUM] !== this.shape.queueSize) {
      throw new ProtocolError(
        `Cannot use an in-flight region for ${words[DESC_NUM]} descriptors in a queue of ` +
          `${this.shape.queueSize}`,
      );
    }
  }
}

/** The 16-bit words of a part, which is aligned because its region begins at a page. */
export function words16(part: Uint8Array<ArrayBuffer>): Uint16Array<ArrayBuffer> {
  return new Uint16Array(part.buffer, part.byteOffset, part.length >> 1);
}

/** The 64-bit words of a part: counters, which a successor must never find half written. */
export function words64(part: Uint8Array<ArrayBuffer>): BigUint64Array<ArrayBuffer> {
  return new BigUint64Array(part.buffer, part.byteOffset, part.length >> 3);
}

/** Clears a part that says nothing yet. `announce` must follow. */
export function clearPart(part: Uint8Array<ArrayBuffer>, queueSize: number): void {
  part.fill(0);
  words16(part)[DESC_NUM] = queueSize;
}

/** Says that what the part holds has a meaning from now on. */
export function announce(part: Uint8Array<ArrayBuffer>): void {
  Atomics.store(words16(part), VERSION, INFLIGHT_VERSION);
}

export function isAnnounced(part: Uint8Array<ArrayBuffer>): boolean {
  return words16(part)[VERSION] !== 0;
}
