/**
 * Work on a file by io_uring: what would make the loop wait. Completions arrive as events.
 *
 * Data in the page cache is moved by the loop itself, which costs less: reads are tried with
 * RWF_NOWAIT first. Past the page cache, and on block devices, everything goes through the ring.
 */
import type { Host } from "../../../core/device.ts";
import {
  bytes,
  EAGAIN,
  EBUSY,
  EINTR,
  EINVAL,
  EIO,
  EOPNOTSUPP,
  errno,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  IOV_MAX,
  Iovecs,
  libc,
  POLLFD,
  RWF_NOWAIT,
  runtime,
  signal,
  URING_FSYNC_DATASYNC,
  Uring,
  UringOperation,
} from "../../../ffi/mod.ts";
import { type Background, type Job, WAIT, Work } from "../background.ts";
import type { Transfer } from "../store.ts";
import type { FileStore } from "./file.ts";

/** Operations handed over at once, and in flight at most. */
const ENTRIES = 256;
const CAPACITY = 4096;
/** Buffers that the operations of one submission may have, where they have more than one. */
const BATCH_IOVECS = 4 * IOV_MAX;
/** How often an operation is tried again that the kernel could not do just then. */
const MOST_TRIES = 16;
/** When a submission that the kernel had no room for is tried again, in milliseconds. */
const RETRY = 5;
const POLLIN = 1;
/** Milliseconds that jobs may be carried out by the loop, one after another. */
const TIME_SLICE = 10;

export class FileBackground implements Background {
  readonly #store: FileStore;
  readonly #host: Pick<Host, "watch" | "every">;
  readonly #ring: Uring;
  readonly #watch: Disposable;
  /** Jobs in flight by their tokens. */
  readonly #jobs: (Job | null)[] = [];
  readonly #iovecs = new Iovecs();
  /** Buffers of what was not submitted yet, four words each; how many there are; its address. */
  readonly #batch = new Uint32Array(new ArrayBuffer(BATCH_IOVECS * 16));
  #batched = 0;
  readonly #batchAddress: number;
  /** Everything goes through the ring, even if it could be done at once. */
  readonly #readsLater: boolean;
  readonly #writesLater: boolean;
  #nowait = true;
  /** What the ring could not do: it is done by the loop, a few at a time. */
  readonly #leftOver: Job[] = [];
  /** Flushes that the sync in flight is for, and those that came later: the next one is for these. */
  #flushes: Job[] = [];
  #nextFlushes: Job[] = [];
  /** Zeros were asked for once: the store knows whether the file system can make them. */
  #zeroed = false;
  #retry: Disposable | null = null;

  /** `all`: leaves nothing to the loop. Throws `SystemError` where there is no io_uring. */
  constructor(store: FileStore, host: Pick<Host, "watch" | "every">, all: boolean) {
    this.#store = store;
    this.#host = host;
    this.#readsLater = all || store.direct;
    this.#writesLater = all || store.direct || store.isDevice;
    this.#batchAddress = runtime.addressOf(this.#batch);
    this.#ring = new Uring(ENTRIES, CAPACITY);
    try {
      this.#watch = host.watch(this.#ring.events.number, () => {
        this.#ring.collect();
        this.#reapAndSubmit();
      });
    } catch (error) {
      this.#ring[Symbol.dispose]();
      throw error;
    }
  }

  get full(): boolean {
    return this.#ring.inFlight + this.#leftOver.length >= this.#ring.capacity;
  }

  tryRead(transfer: Transfer, offset: number): number {
    if (this.#readsLater) return WAIT;
    if (!this.#nowait) return this.#store.read(transfer, offset);
    const iovecs = this.#iovecs;
    iovecs.clear();
    transfer.iovecs(iovecs, 0);
    const { number } = this.#store.fd;
    const moved = libc.preadv2(number, iovecs.words, iovecs.count, offset, RWF_NOWAIT);
    if (moved === transfer.length) return 0;
    // A part is read again with the rest.
    if (moved >= 0) return WAIT;
    const why = errno();
    if (why === EAGAIN) return WAIT;
    // tmpfs does not know the flag, and never waits for a disk.
    this.#nowait = why !== EOPNOTSUPP;
    return this.#store.read(transfer, offset);
  }

  tryWrite(transfer: Transfer, offset: number): number {
    return this.#writesLater ? WAIT : this.#store.write(transfer, offset);
  }

  start(job: Job): number {
    const { work } = job;
    job.done = 0;
    job.tries = 0;
    const store = this.#store;
    const allocates = work === Work.DISCARD || work === Work.WRITE_ZEROES;
    const known = this.#zeroed && store.canZeroRange;
    const plain = work === Work.WRITE_ZEROES && !job.unmap && !known;
    if (plain) this.#zeroed = true;
    // The drain that we are called from sees to it that others get their turn.
    if (plain || (allocates && store.isDevice)) return this.#carryOut(job);
    if (work === Work.FLUSH) return this.#addFlush(job);
    this.#jobs[job.token] = job;
    this.#push(job);
    return WAIT;
  }

  submit(): void {
    if (this.#ring.inFlight === 0) return;
    this.#submitPushed();
    this.#reapAndSubmit();
  }

  finish(milliseconds: number): boolean {
    const request = bytes(POLLFD.size);
    const view = new DataView(request.buffer);
    view.setInt32(POLLFD.fd, this.#ring.events.number, true);
    view.setInt16(POLLFD.events, POLLIN, true);
    const end = performance.now() + milliseconds;
    for (;;) {
      this.#ring.collect();
      this.#reapAndSubmit();
      if (this.#ring.inFlight + this.#leftOver.length === 0) return true;
      const left = Math.ceil(end - performance.now());
      if (left <= 0) return false;
      libc.poll(request, 1, left);
    }
  }

  /** Jobs in flight must have ended. */
  [Symbol.dispose](): void {
    this.#retry?.[Symbol.dispose]();
    this.#watch[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
  }

  #reapAndSubmit(): void {
    this.#reap();
    this.#submitPushed();
  }

  #submitPushed(): void {
    const error = this.#ring.submit();
    if (error === 0) {
      this.#batched = 0;
      this.#retry?.[Symbol.dispose]();
      this.#retry = null;
    } else this.#retry ??= this.#host.every(RETRY, () => this.#reapAndSubmit());
  }

  /** Takes what has completed. Jobs may start others meanwhile. */
  #reap(): void {
    const ring = this.#ring;
    while (ring.next()) {
      const job = this.#jobs[ring.token]!;
      const result = this.#completed(job, ring.result);
      if (result === WAIT) continue;
      this.#finish(job, result);
    }
    if (this.#leftOver.length > 0) this.#carryOutSome();
  }

  #finish(job: Job, result: number): void {
    this.#jobs[job.token] = null;
    if (job.work !== Work.FLUSH) return job.ended(job, result);
    const ended = this.#flushes;
    this.#flushes = [];
    if (this.#nextFlushes.length > 0) this.#beginFlush();
    for (const flush of ended) flush.ended(flush, result);
  }

  /** One sync at a time, however many flushes a driver sends: they would only wait for each other. */
  #addFlush(job: Job): typeof WAIT {
    this.#nextFlushes.push(job);
    if (this.#flushes.length === 0) this.#beginFlush();
    return WAIT;
  }

  #beginFlush(): void {
    this.#flushes = this.#nextFlushes;
    this.#nextFlushes = [];
    const first = this.#flushes[0]!;
    this.#jobs[first.token] = first;
    this.#push(first);
  }

  /** Others get their turn in between. */
  #carryOutSome(): void {
    const end = performance.now() + TIME_SLICE;
    do {
      const job = this.#leftOver.shift()!;
      const usable = job.work === Work.FLUSH || job.chain?.live;
      this.#finish(job, usable ? this.#carryOut(job) : -EIO);
    } while (this.#leftOver.length > 0 && performance.now() < end);
    if (this.#leftOver.length > 0) signal(this.#ring.events.number);
  }

  /** What a completion means for its job: its result, or `WAIT` when it goes on. */
  #completed(job: Job, result: number): number {
    const moves = job.work === Work.READ || job.work === Work.WRITE;
    if (result < 0) return this.#failed(job, -result, moves);
    if (!moves) return 0;
    job.done += result;
    if (job.done >= job.length) return 0;
    // The file ends before the disk does: somebody shortened it.
    return result === 0 ? -EIO : this.#again(job);
  }

  #failed(job: Job, error: number, moves: boolean): number {
    const passing = error === EAGAIN || error === EINTR || error === EBUSY;
    if (passing && ++job.tries < MOST_TRIES) return this.#again(job);
    // O_DIRECT refuses guest buffers that are not aligned: the store has a way.
    const refused = moves ? error === EINVAL || passing : error === EOPNOTSUPP || passing;
    if (!refused) return -error;
    this.#leftOver.push(job);
    return WAIT;
  }

  /** Goes on with a job, unless its memory was taken away meanwhile. */
  #again(job: Job): number {
    if (job.work !== Work.FLUSH && !job.chain?.live) return -EIO;
    this.#push(job);
    return WAIT;
  }

  /** Does a job at once, and lets everybody wait for it. */
  #carryOut({ work, transfer, offset, length, unmap }: Job): number {
    const store = this.#store;
    switch (work) {
      case Work.READ:
        return store.read(transfer, offset);
      case Work.WRITE:
        return store.write(transfer, offset);
      case Work.DISCARD:
        return store.discard(offset, length);
      case Work.WRITE_ZEROES:
        return store.writeZeroes(offset, length, unmap);
      default:
        return store.flush();
    }
  }

  #push(job: Job): void {
    if (this.#ring.full) this.#makeRoom();
    const { number } = this.#store.fd;
    const { work, token } = job;
    if (work === Work.READ || work === Work.WRITE) return this.#pushTransfer(job);
    const ring = this.#ring;
    if (work === Work.FLUSH) {
      return ring.push(UringOperation.FSYNC, number, 0, 0, 0, 0, URING_FSYNC_DATASYNC, token);
    }
    const punch = work === Work.DISCARD || job.unmap;
    const mode = (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
    const { offset, length } = job;
    const high = Math.floor(length / 4294967296);
    ring.push(UringOperation.FALLOCATE, number, offset, length | 0, high, mode, 0, token);
  }

  #pushTransfer(job: Job): void {
    const iovecs = this.#iovecs;
    const { words } = iovecs;
    iovecs.clear();
    job.transfer.iovecs(iovecs, job.done);
    const { count } = iovecs;
    const ring = this.#ring;
    const { number } = this.#store.fd;
    const reads = job.work === Work.READ;
    const offset = job.offset + job.done;
    if (count === 1) {
      const operation = reads ? UringOperation.READ : UringOperation.WRITE;
      return ring.push(operation, number, offset, words[0]!, words[1]!, words[2]!, 0, job.token);
    }
    if (this.#batched + count > BATCH_IOVECS) this.#makeRoom();
    const batch = this.#batch;
    const start = this.#batched << 2;
    for (let i = 0; i < count << 2; i++) batch[start + i] = words[i]!;
    const address = this.#batchAddress + (start << 2);
    const operation = reads ? UringOperation.READV : UringOperation.WRITEV;
    const high = Math.floor(address / 4294967296);
    ring.push(operation, number, offset, address | 0, high, count, 0, job.token);
    this.#batched += count;
  }

  /** Hands over what was pushed, and waits while the kernel lacks memory for it. */
  #makeRoom(): void {
    for (;;) {
      this.#submitPushed();
      if (!this.#ring.full && this.#batched === 0) return;
      libc.poll(null, 0, RETRY);
    }
  }
}
