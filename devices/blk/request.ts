/**
 * Block requests (virtio 1.3, 5.2.6): parsed and checked here, carried out by the store.
 *
 * A wrong request gets a status, never an exception: IOERR for a range outside the disk, UNSUPP for
 * what the device does not do.
 */
import type { Chain, HeldChain } from "../../core/chain.ts";
import { PENDING, STOP, type Virtqueue } from "../../core/device.ts";
import type { Log } from "../../core/log.ts";
import { EIO, EOPNOTSUPP } from "../../ffi/mod.ts";
import { WAIT, Work } from "./background.ts";
import { type DiskSegment, LaterRequests } from "./later.ts";
import { ChainTransfer, type Store, type StoreResult } from "./store.ts";
import {
  ID_SIZE,
  RequestHeader,
  RequestType,
  SECTOR_SIZE,
  SEGMENT_UNMAP,
  Segment,
  Status,
} from "./wire.ts";

/** Limits of one request, as announced in the config space. */
export interface RequestLimits {
  readonly logicalBlockSize: number;
  readonly maxDiscardSegments: number;
  readonly maxWriteZeroesSegments: number;
  readonly maxDiscardSectors: number;
  readonly maxWriteZeroesSectors: number;
}

export interface RequestContext {
  readonly store: Store;
  readonly log: Log;
  /** The disk's identifier, `ID_SIZE` bytes. */
  readonly serial: Uint8Array;
  readonly limits: RequestLimits;
}

/** Results for requests that the store never sees. No error number is that large. */
const OUTSIDE = -1_000_000;
const READ_ONLY = -1_000_001;
const BAD_SEGMENTS = -1_000_002;
const TOO_LONG = -1_000_003;

/** Bytes one request may move. It is carried out in one go, and others wait meanwhile. */
const MAX_TRANSFER = 64 * 2 ** 20;

const refusals: ReadonlyMap<number, string> = new Map([
  [OUTSIDE, "it does not cover whole blocks of the disk"],
  [READ_ONLY, "the disk is read-only"],
  [BAD_SEGMENTS, "its segments are malformed, too many or too long"],
  [TOO_LONG, `it is longer than ${MAX_TRANSFER} bytes`],
  [-EOPNOTSUPP, "the device does not support it"],
]);

export class RequestHandler {
  /** False: every write is made durable before it is completed. */
  writeCache = true;
  readonly #store: Store;
  readonly #log: Log;
  readonly #serial: Uint8Array;
  readonly #limits: RequestLimits;
  readonly #blockMask: number;
  /** Serves every request of a synchronous store in turn. */
  readonly #transfer = new ChainTransfer();
  readonly #later: LaterRequests | null;

  constructor({ store, log, serial, limits }: RequestContext) {
    this.#store = store;
    this.#log = log;
    this.#serial = serial;
    this.#limits = limits;
    this.#blockMask = limits.logicalBlockSize - 1;
    const { background = null } = store;
    this.#later =
      background === null
        ? null
        : new LaterRequests(background, {
            durable: () => !this.writeCache,
            settle: (chain, result) => this.#settle(chain, result),
          });
  }

  /** Hands over what goes on after its chain was handled. Called at the end of each drain. */
  submit(): void {
    this.#later?.submit();
  }

  /** Waits until nothing goes on, at most so long. */
  finish(milliseconds: number): void {
    this.#later?.finish(milliseconds);
  }

  /**
   * Serves one chain of `queue`. Returns the bytes written, `PENDING` when it goes on, or `STOP` when too
   * many do.
   */
  handle(chain: Chain, queue: Virtqueue): number {
    if (this.#later !== null && !this.#later.hasRoom(queue)) return STOP;
    if (chain.writableBytes === 0) {
      this.#log.warn("Dropped a request that has no room for its status");
      return 0;
    }
    if (chain.readableBytes < RequestHeader.size) {
      this.#log.warn("Refused a request: it has no whole header");
      return finish(chain, 0, Status.IOERR);
    }
    if (this.#store.async === true) return this.#handleHeld(chain.hold());
    const result = this.#execute(chain, this.#transfer) as number;
    return result === WAIT ? PENDING : this.#settle(chain, result);
  }

  #handleHeld(chain: HeldChain): typeof PENDING {
    Promise.resolve()
      .then(() => this.#execute(chain, new ChainTransfer()))
      .catch((error) => {
        this.#log.error(`The store failed: ${error instanceof Error ? error.message : error}`);
        return -EIO;
      })
      .then((result) => chain.complete(chain.live ? this.#settle(chain, result) : 0));
    return PENDING;
  }

  /** Writes the status for a store's result and counts the bytes written. */
  #settle(chain: Chain, result: number): number {
    if (result >= 0) return finish(chain, result, Status.OK);
    // The driver chooses the type: in the message's text it would get around the log's limit.
    const type = chain.readU32(RequestHeader.type);
    const reason = refusals.get(result);
    if (reason === undefined) this.#log.warn("A request failed", { type, errno: -result });
    else this.#log.warn(`Refused a request: ${reason}`, { type });
    return finish(chain, 0, result === -EOPNOTSUPP ? Status.UNSUPP : Status.IOERR);
  }

  /** Returns data bytes written to the driver, or a negative error number. */
  #execute(chain: Chain, transfer: ChainTransfer): StoreResult {
    const sector = chain.readU64(RequestHeader.sector);
    switch (chain.readU32(RequestHeader.type)) {
      case RequestType.IN:
        return this.#read(chain, transfer, sector * SECTOR_SIZE);
      case RequestType.OUT:
        return this.#write(chain, transfer, sector * SECTOR_SIZE);
      case RequestType.FLUSH:
        return this.#flush(chain);
      case RequestType.GET_ID:
        return this.#identify(chain);
      case RequestType.DISCARD:
        return this.#eachSegment(chain, false);
      case RequestType.WRITE_ZEROES:
        return this.#eachSegment(chain, true);
      default:
        return -EOPNOTSUPP;
    }
  }

  #read(chain: Chain, transfer: ChainTransfer, offset: number): StoreResult {
    const length = chain.writableBytes - 1;
    if (length > MAX_TRANSFER) return TOO_LONG;
    if (!this.#inside(offset, length)) return OUTSIDE;
    const later = this.#later;
    transfer.select(chain, 0, length, true);
    if (later !== null) {
      const result = later.background.tryRead(transfer, offset);
      if (result === WAIT) return later.move(Work.READ, chain, offset, length);
      return result < 0 ? result : length;
    }
    const result = this.#store.read(transfer, offset);
    if (typeof result !== "number") return result.then((error) => (error < 0 ? error : length));
    return result < 0 ? result : length;
  }

  #write(chain: Chain, transfer: ChainTransfer, offset: number): StoreResult {
    const length = chain.readableBytes - RequestHeader.size;
    if (this.#store.readOnly) return READ_ONLY;
    if (length > MAX_TRANSFER) return TOO_LONG;
    if (!this.#inside(offset, length)) return OUTSIDE;
    const data = transfer.select(chain, RequestHeader.size, length, false);
    const later = this.#later;
    if (later !== null) {
      const result = later.background.tryWrite(data, offset);
      if (result === WAIT) return later.move(Work.WRITE, chain, offset, length);
      return this.#written(chain, result);
    }
    const result = this.#store.write(data, offset);
    // The write cache may be switched off while an async store writes: asked when it has written.
    if (typeof result !== "number") return result.then((error) => this.#written(chain, error));
    return this.#written(chain, result);
  }

  /** What follows a write that ended with `error`. */
  #written(chain: Chain, error: number): StoreResult {
    return error < 0 || this.writeCache ? error : this.#flush(chain);
  }

  #flush(chain: Chain): StoreResult {
    return this.#later === null ? this.#store.flush() : this.#later.flush(chain);
  }

  /** Whole blocks, at least one, within the disk. Also false for offsets too large to be exact. */
  #inside(offset: number, length: number): boolean {
    const { size } = this.#store;
    if (length <= 0 || offset > size || length > size - offset) return false;
    // Offsets beyond 2^32 lose their upper half here, which has no say in the alignment.
    return ((offset | length) & this.#blockMask) === 0;
  }

  #identify(chain: Chain): number {
    const room = Math.min(ID_SIZE, chain.writableBytes - 1);
    return chain.write(this.#serial.subarray(0, room));
  }

  /** DISCARD and WRITE_ZEROES: all segments are checked before the first one is carried out. */
  #eachSegment(chain: Chain, zeroes: boolean): StoreResult {
    const store = this.#store;
    if (store.readOnly) return READ_ONLY;
    if ((zeroes ? store.writeZeroes : store.discard) === undefined) return -EOPNOTSUPP;
    const bytes = chain.readableBytes - RequestHeader.size;
    const count = bytes / Segment.size;
    const { maxDiscardSegments, maxWriteZeroesSegments } = this.#limits;
    const most = zeroes ? maxWriteZeroesSegments : maxDiscardSegments;
    if (!Number.isInteger(count) || count < 1 || count > most) {
      return BAD_SEGMENTS;
    }
    // Read once: the driver may change its memory between the checks and the work.
    const segments = Array.from({ length: count }, (_, i) => readSegment(chain, i));
    for (const segment of segments) {
      const error = this.#checkSegment(segment, zeroes);
      if (error < 0) return error;
    }
    if (this.#later !== null) return this.#later.segments(chain, segments, zeroes);
    return this.#runSegments(segments, 0, zeroes);
  }

  #checkSegment({ offset, length, flags }: DiskSegment, zeroes: boolean): number {
    if ((flags & ~SEGMENT_UNMAP) !== 0 || (flags !== 0 && !zeroes)) return -EOPNOTSUPP;
    const { maxDiscardSectors, maxWriteZeroesSectors } = this.#limits;
    const sectors = zeroes ? maxWriteZeroesSectors : maxDiscardSectors;
    if (length > sectors * SECTOR_SIZE) return BAD_SEGMENTS;
    return this.#inside(offset, length) ? 0 : OUTSIDE;
  }

  #runSegments(segments: readonly DiskSegment[], first: number, zeroes: boolean): StoreResult {
    for (let i = first; i < segments.length; i++) {
      const { offset, length, flags } = segments[i]!;
      const result = zeroes
        ? this.#store.writeZeroes!(offset, length, (flags & SEGMENT_UNMAP) !== 0)
        : this.#store.discard!(offset, length);
      if (typeof result !== "number") {
        return result.then((error) => {
          return error < 0 ? error : this.#runSegments(segments, i + 1, zeroes);
        });
      }
      if (result < 0) return result;
    }
    return this.writeCache || !zeroes ? 0 : this.#store.flush();
  }
}

function readSegment(chain: Chain, i: number): DiskSegment {
  const at = RequestHeader.size + i * Segment.size;
  return {
    offset: chain.readU64(at + Segment.sector) * SECTOR_SIZE,
    length: chain.readU32(at + Segment.sectors) * SECTOR_SIZE,
    flags: chain.readU32(at + Segment.flags),
  };
}

/**
 * Writes the status byte behind `data` bytes. The count must not cover bytes that were not written
 * (virtio 1.3, 2.7.8.2), so it includes the status only when nothing lies between.
 */
function finish(chain: Chain, data: number, status: number): number {
  chain.writeLastU8(status);
  return data + 1 === chain.writableBytes ? data + 1 : data;
}
