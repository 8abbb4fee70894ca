/**
 * The receiving side of one queue pair: frames go into the buffers that the driver provides (virtio
 * 1.3, 5.1.6.3), one copy from wherever they are, or read there by the kernel.
 *
 * Buffers are taken for one frame at a time and put back when they are too few, so that nothing is in
 * flight between two frames and a queue can stop at any time.
 */
import type { Chain } from "../../core/chain.ts";
import { copyChain } from "../../core/chain-copy.ts";
import type { Virtqueue } from "../../core/device.ts";
import { HostChain } from "../../core/host-chain.ts";
import { EAGAIN, EINTR, errno, Iovecs, libc } from "../../ffi/mod.ts";
import type { Capture } from "./capture.ts";
import { Counter, type Counters } from "./counters.ts";
import type { RxFilter } from "./filter.ts";
import { Frame } from "./frame.ts";
import { anyOffloads, noOffloads, type Offloads } from "./offloads.ts";
import type { FrameSink } from "./port.ts";
import { Software } from "./software.ts";
import { Header, MAX_FRAME } from "./wire.ts";

const { RX_FRAMES, RX_BYTES, RX_DROPPED, RX_FILTERED } = Counter;

/** Buffers that one frame may be spread over. */
const MAX_PARTS = 1024;
/** Spans of buffers that one call may fill; the last iovec is our own. */
const MAX_SPANS = 1000;
/** Frames shown to the driver together, far fewer than the smallest usual ring has buffers. */
const PUBLISH_BATCH = 32;
/** Bytes that are expected of a frame at least. */
const SMALL_FRAME = 1600;

/** What became of a frame. */
export const Outcome = {
  /** The guest has it. */
  DONE: 0,
  /** It is gone, and counted. */
  LOST: 1,
  /** The guest has no buffer now; there will be a kick with the next one. */
  NO_BUFFERS: 2,
  /** There was none to be read. */
  NOTHING: 3,
  /** The descriptor cannot be read, or not now. */
  FAILED: 4,
} as const;

/** Bytes of the header that are completed last: the flags, and the number of buffers. */
const noted = [0, Header.numBuffers, Header.numBuffers + 1] as const;

// Frames that turn out to be longer than the buffers that were taken go on here. One for all: its
// contents are gone before the next call.
let shared: HostChain | null = null;
let software: Software | null = null;

function overflow(): HostChain {
  shared ??= new HostChain(MAX_FRAME + Header.size);
  return shared;
}

/** What a `read` of a tap that gave no frame means. */
export function readFailure(got: number): number {
  if (got >= 0) return Outcome.LOST;
  const why = errno();
  return why === EAGAIN || why === EINTR ? Outcome.NOTHING : Outcome.FAILED;
}

export class Receiver implements FrameSink {
  /** The pair's receive queue while it runs. */
  queue: Virtqueue | null = null;
  headerSize: number = Header.size;
  /** What may be left to the guest. */
  offloads: Offloads = noOffloads;
  /** Frames may be spread over several buffers. */
  mergeable = false;
  /** The longest frame that comes in one piece, in bytes. */
  maxFrame: number = MAX_FRAME;
  filter: RxFilter | null = null;
  capture: Capture | null = null;
  readonly #counters: Counters;
  readonly #heads = new Uint32Array(MAX_PARTS);
  readonly #lengths = new Uint32Array(MAX_PARTS);
  readonly #iovecs = new Iovecs();
  readonly #header = new DataView(new ArrayBuffer(Header.size));
  readonly #headerBytes = new Uint8Array(this.#header.buffer);
  /** Where the first and the last two bytes of the header lie: window slots and offsets. */
  readonly #places = new Int32Array(6);
  readonly #frame = new Frame();
  #expected = SMALL_FRAME;
  #staged = 0;

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  get running(): boolean {
    return this.queue !== null;
  }

  /**
   * Copies a frame into the guest's buffers. False when it was dropped, which is counted. The
   * driver sees it after `publish` at the latest.
   */
  deliver(frame: Frame): boolean {
    const outcome = this.offer(frame);
    if (outcome === Outcome.NO_BUFFERS) return this.#drop(RX_DROPPED);
    return outcome === Outcome.DONE;
  }

  /** The same, but a frame for which there is no buffer at all is not dropped. Returns an `Outcome`. */
  offer(frame: Frame): number {
    const { queue } = this;
    if (queue === null) return this.#lost(RX_DROPPED);
    if (frame.length > this.maxFrame || frame.offloaded || this.filter !== null) {
      if (this.filter !== null && !this.filter.admits(frame)) return this.#lost(RX_FILTERED);
      if (!this.#takes(frame)) return this.#finish(frame);
      if (frame.gsoType === 0 && frame.length > this.maxFrame) return this.#lost(RX_FILTERED);
    }
    if (!queue.next()) return this.#starve(queue);
    const { chain } = queue;
    const total = frame.length + this.headerSize;
    if (chain.writableBytes < total) return this.#deliverParts(queue, frame);
    this.#writeHeader(chain, frame, 1);
    copyChain(frame.chain, frame.at, chain, this.headerSize, frame.length);
    if (this.capture !== null) this.capture.received(frame);
    queue.complete(chain.head, total);
    this.#delivered(1, frame.length);
    return Outcome.DONE;
  }

  /** The queue stops, and is published by who stops it. */
  stop(): void {
    this.queue = null;
    this.#staged = 0;
  }

  /** Shows the driver what was delivered. */
  publish(): void {
    if (this.#staged === 0) return;
    this.#staged = 0;
    this.queue?.publish();
  }

  /**
   * Reads one frame from a tap, after a header of `headerSize` bytes, into the guest's buffers. Those
   * that the frame will hardly need are not taken; a frame that is longer goes on in memory of ours and
   * is copied. Returns an `Outcome`.
   */
  readFrom(fd: number): number {
    const { queue } = this;
    if (queue === null) return Outcome.NO_BUFFERS;
    if (this.filter !== null) return this.#readFiltered(fd);
    const count = this.#takeBuffers(queue);
    if (count === 0) return this.#starve(queue);
    const iovecs = this.#iovecs;
    const room = iovecs.bytes;
    iovecs.push(overflow().address, MAX_FRAME + Header.size);
    const got = libc.readv(fd, iovecs.words, iovecs.count);
    if (got <= this.headerSize) {
      const outcome = readFailure(got);
      this.#putBack(queue, count);
      return outcome;
    }
    this.#expected = got > this.#expected ? got : Math.max(SMALL_FRAME, (this.#expected * 63) >> 6);
    const parts = got <= room ? this.#cut(queue, got, count) : this.#spill(queue, got, room, count);
    if (parts === 0) return this.#lost(RX_DROPPED);
    this.#finishHeader(queue.chain, parts);
    this.capture?.receivedIovecs(iovecs, this.headerSize, got);
    this.#complete(queue, parts);
    this.#delivered(parts, got - this.headerSize);
    return Outcome.DONE;
  }

  /** Reads a frame into memory of ours, to look at it first. */
  #readFiltered(fd: number): number {
    const chain = overflow();
    const iovecs = this.#iovecs;
    iovecs.clear();
    iovecs.push(chain.address, MAX_FRAME + Header.size);
    const got = libc.readv(fd, iovecs.words, 1);
    if (got <= this.headerSize) return readFailure(got);
    chain.select(0, got);
    if (!this.#frame.parse(chain, this.headerSize, anyOffloads)) return this.#lost(RX_FILTERED);
    return this.deliver(this.#frame) ? Outcome.DONE : Outcome.LOST;
  }

  #delivered(buffers: number, bytes: number): void {
    const counters = this.#counters;
    counters[RX_FRAMES]!++;
    counters[RX_BYTES]! += bytes;
    this.#staged += buffers;
    if (this.#staged >= PUBLISH_BATCH) this.publish();
  }

  #drop(reason: number): false {
    this.#counters[reason]!++;
    return false;
  }

  #lost(reason: number): number {
    this.#counters[reason]!++;
    return Outcome.LOST;
  }

  /** There is no buffer: asks for a kick with the next one. */
  #starve(queue: Virtqueue): number {
    this.publish();
    queue.resume();
    return Outcome.NO_BUFFERS;
  }

  /** The guest does itself what is left to be done to a frame. */
  #takes({ gsoType, flags }: Frame): boolean {
    return (gsoType === 0 || this.offloads.accepts(gsoType)) && (flags === 0 || this.offloads.csum);
  }

  /** Does what the guest does not. The pieces of a packet are delivered as far as there are buffers. */
  #finish(frame: Frame): number {
    software ??= new Software();
    const done = software.finish(frame, (piece) => this.deliver(piece));
    return done ? Outcome.DONE : this.#lost(RX_FILTERED);
  }

  #deliverParts(queue: Virtqueue, frame: Frame): number {
    const { chain } = queue;
    const { length } = frame;
    let count = 0;
    for (let done = 0; done < length; count++) {
      if (count > 0 && (count === MAX_PARTS || !queue.next())) {
        // Waiting for more would be waiting for a kick that need not come: there are buffers.
        this.#putBack(queue, count);
        return this.#lost(RX_DROPPED);
      }
      const room = chain.writableBytes;
      const skip = count === 0 ? this.headerSize : 0;
      if (!this.mergeable || room < skip) {
        queue.putBack();
        this.#putBack(queue, count);
        return this.#lost(RX_FILTERED);
      }
      if (count === 0) {
        this.#writeHeader(chain, frame, 1);
        this.#notePlaces(chain);
      }
      const size = Math.min(room - skip, length - done);
      copyChain(frame.chain, frame.at + done, chain, skip, size);
      done += size;
      this.#heads[count] = chain.head;
      this.#lengths[count] = skip + size;
    }
    this.#finishHeader(chain, count);
    this.capture?.received(frame);
    this.#complete(queue, count);
    this.#delivered(count, length);
    return Outcome.DONE;
  }

  /** Takes buffers for a frame of the expected length. Returns how many; none when there are none. */
  #takeBuffers(queue: Virtqueue): number {
    const iovecs = this.#iovecs;
    const { chain } = queue;
    const wanted = this.#expected + this.headerSize;
    iovecs.clear();
    let count = 0;
    while (iovecs.bytes < wanted && count < MAX_PARTS && queue.next()) {
      const room = chain.writableBytes;
      if (count === 0 && room < this.headerSize) {
        // It is of no use to anybody, and the next one may be better.
        queue.complete(chain.head, 0);
        this.#staged++;
        continue;
      }
      if (iovecs.count + chain.writableCount > MAX_SPANS) {
        queue.putBack();
        break;
      }
      if (count === 0) this.#notePlaces(chain);
      chain.writableIovecs(iovecs, 0, room);
      this.#heads[count] = chain.head;
      this.#lengths[count] = room;
      count++;
      if (!this.mergeable) break;
    }
    return count;
  }

  /** Keeps as many of `count` buffers as `got` bytes need. Returns how many. */
  #cut(queue: Virtqueue, got: number, count: number): number {
    let parts = 0;
    let left = got;
    while (left > 0) {
      const length = Math.min(left, this.#lengths[parts]!);
      this.#lengths[parts++] = length;
      left -= length;
    }
    for (let i = count - 1; i >= parts; i--) queue.putBack(this.#heads[i]!);
    return parts;
  }

  /** Copies what did not fit into `room` bytes into further buffers. Returns their number, or 0. */
  #spill(queue: Virtqueue, got: number, room: number, before: number): number {
    const { chain } = queue;
    const rest = overflow();
    rest.select(0, got - room);
    let count = before;
    for (let done = 0; done < got - room; count++) {
      if (!this.mergeable || count === MAX_PARTS || !queue.next()) {
        this.#putBack(queue, count);
        return 0;
      }
      const size = Math.min(chain.writableBytes, got - room - done);
      copyChain(rest, done, chain, 0, size);
      done += size;
      this.#heads[count] = chain.head;
      this.#lengths[count] = size;
    }
    return count;
  }

  #putBack(queue: Virtqueue, count: number): void {
    for (let i = count - 1; i >= 0; i--) queue.putBack(this.#heads[i]!);
  }

  #complete(queue: Virtqueue, count: number): void {
    for (let i = 0; i < count; i++) queue.complete(this.#heads[i]!, this.#lengths[i]!);
  }

  #writeHeader(chain: Chain, frame: Frame, buffers: number): void {
    const size = this.headerSize;
    const span = chain.readableCount << 2;
    const { spans } = chain;
    if (spans[span + 2]! < size || frame.offloaded) {
      frame.encodeHeader(this.#header, size, buffers);
      chain.write(size === Header.size ? this.#headerBytes : this.#headerBytes.subarray(0, size));
      return;
    }
    const { data } = chain.space.slots[spans[span]!]!;
    const at = spans[span + 1]!;
    data.setInt32(at, 0, true);
    data.setInt32((at + 4) | 0, 0, true);
    if (size === Header.size) data.setInt32((at + 8) | 0, buffers << 16, true);
    else data.setInt16((at + 8) | 0, 0, true);
  }

  /** Remembers where in memory the header of a frame lies that begins in `chain`. */
  #notePlaces(chain: Chain): void {
    const { spans } = chain;
    for (let i = 0; i < noted.length; i++) {
      let at = noted[i]!;
      let span = chain.readableCount;
      while (span < chain.count && at >= spans[(span << 2) + 2]!) at -= spans[(span++ << 2) + 2]!;
      // A short header has no number of buffers; what is noted is not used then.
      if (span === chain.count) return;
      this.#places[i << 1] = spans[span << 2]!;
      this.#places[(i << 1) + 1] = spans[(span << 2) + 1]! + at;
    }
  }

  /** Completes the header that `#notePlaces` was told of. */
  #finishHeader(chain: Chain, buffers: number): void {
    const places = this.#places;
    const { slots } = chain.space;
    // Without GUEST_CSUM the flags are zero (5.1.6.4.1), where the kernel may tell a valid checksum.
    if (!this.offloads.csum) slots[places[0]!]!.u8[places[1]!] = 0;
    if (this.headerSize < Header.size) return;
    slots[places[2]!]!.u8[places[3]!] = buffers;
    slots[places[4]!]!.u8[places[5]!] = buffers >> 8;
  }
}
