/** Reads and writes a disk as fast as it goes, at a given queue depth, and verifies what it read. */
import type { BlkDriver } from "./drivers/blk.ts";
import type { BlkQueue } from "./drivers/blk-queue.ts";
import { BlkRequest, BlkStatus, SECTOR } from "./drivers/blk-wire.ts";
import { BackEndError } from "./errors.ts";
import { Histogram } from "./histogram.ts";
import { Journal } from "./journal.ts";
import { DEFAULT_TIMEOUT } from "./wait.ts";

export interface WorkloadOptions {
  readonly operation: "read" | "write" | "mixed";
  readonly order: "sequential" | "random";
  /** Bytes per request; 4096 by default. */
  readonly blockSize?: number;
  /** Requests in flight per queue; as many as the driver has slots for by default. */
  readonly depth?: number;
  /** Ends after so many requests; each block once by default, unless `seconds` is given. */
  readonly requests?: number;
  /** Ends after this time. */
  readonly seconds?: number;
  /** Blocks of the disk to use, from its start; all by default. */
  readonly blocks?: number;
  /**
   * What the disk holds. Pass the journal of an earlier workload to verify what that one wrote; null
   * turns verification off. By default everything counts as never written.
   */
  readonly journal?: Journal | null;
  /** Makes runs repeatable. */
  readonly seed?: number;
  /** Called about five times per second, and at the end. */
  readonly progress?: (progress: Progress) => void;
}

export interface Progress {
  /** Requests completed. */
  readonly done: number;
  /** Of all of them, between 0 and 1. */
  readonly fraction: number;
  readonly seconds: number;
}

export interface WorkloadResult {
  /** Requests completed. */
  readonly requests: number;
  readonly bytes: number;
  readonly seconds: number;
  /** Requests per second. */
  readonly iops: number;
  readonly latency: Histogram;
  /** Requests that ended with a status other than OK. */
  readonly failed: number;
  /** Blocks that held something else than they should. */
  readonly wrong: number;
  /** Completions whose length is not the number of bytes the device wrote. */
  readonly oddLengths: number;
  /** Kicks that were sent. */
  readonly kicks: number;
}

const PROGRESS_INTERVAL = 200;
/** Completions between two looks at the clock. */
const CLOCK_INTERVAL = 64;

/** Runs a workload to its end. Throws `BackEndError` when a request is never completed. */
export function runWorkload(driver: BlkDriver, options: WorkloadOptions): WorkloadResult {
  return new Workload(driver, options).run();
}

class Workload {
  readonly #driver: BlkDriver;
  readonly #options: WorkloadOptions;
  readonly #blockSize: number;
  readonly #blocks: number;
  readonly #journal: Journal | null;
  readonly #lanes: readonly Lane[];
  readonly #latency = new Histogram();
  readonly #end: number;
  readonly #limit: number;
  readonly #depth: number;
  readonly #start = performance.now();
  #random: number;
  #now = this.#start;
  #lastProgress = this.#start;
  #submitted = 0;
  #done = 0;
  #failed = 0;
  #wrong = 0;

  constructor(driver: BlkDriver, options: WorkloadOptions) {
    const { blockSize = 4096, seconds, seed = 1 } = options;
    this.#driver = driver;
    this.#options = options;
    this.#blockSize = blockSize;
    this.#blocks = options.blocks ?? Math.floor(driver.size() / blockSize);
    this.#journal =
      options.journal === undefined ? new Journal(blockSize, this.#blocks) : options.journal;
    this.#limit = options.requests ?? (seconds === undefined ? this.#blocks : Infinity);
    this.#end = seconds === undefined ? Infinity : this.#start + seconds * 1000;
    this.#lanes = driver.queues.map((queue) => new Lane(queue));
    this.#depth = Math.min(options.depth ?? Infinity, ...driver.queues.map((q) => q.depth));
    this.#random = seed | 1;
    this.#check();
  }

  #check(): void {
    const journal = this.#journal;
    if (journal !== null && journal.blockSize !== this.#blockSize) {
      const [own, wanted] = [journal.blockSize, this.#blockSize];
      throw new RangeError(`Cannot use a journal of blocks of ${own} bytes for ones of ${wanted}`);
    }
    if (journal !== null && journal.blocks < this.#blocks) {
      throw new RangeError(`Cannot use a journal of ${journal.blocks} blocks for ${this.#blocks}`);
    }
    const room = Math.min(...this.#driver.queues.map((queue) => queue.maxBytes));
    if (this.#blockSize > room || this.#blockSize % SECTOR !== 0) {
      throw new RangeError(`Cannot use blocks of ${this.#blockSize} bytes: slots have ${room}`);
    }
    if (this.#blocks < 1) throw new RangeError("Cannot run on a disk smaller than one block");
  }

  run(): WorkloadResult {
    const kicks = this.#kicks();
    for (const lane of this.#lanes) this.#fill(lane);
    while (this.#submitted > this.#done) {
      if (!this.#reapAll()) this.#sleep();
      this.#report(false);
    }
    this.#report(true);
    const seconds = (this.#now - this.#start) / 1000;
    return {
      requests: this.#done,
      bytes: this.#done * this.#blockSize,
      seconds,
      iops: this.#done / seconds,
      latency: this.#latency,
      failed: this.#failed,
      wrong: this.#wrong,
      oddLengths: this.#lanes.reduce((sum, { queue }) => sum + queue.oddLengths, 0),
      kicks: this.#kicks() - kicks,
    };
  }

  #kicks(): number {
    return this.#driver.queues.reduce((sum, { vring }) => sum + vring.kicks, 0);
  }

  #reapAll(): boolean {
    let any = false;
    for (const lane of this.#lanes) {
      if (this.#reap(lane)) {
        this.#fill(lane);
        any = true;
      }
    }
    return any;
  }

  /** Takes what one queue has completed. */
  #reap({ queue, block, since, isRead }: Lane): boolean {
    let slot = queue.take();
    if (slot < 0) return false;
    this.#now = performance.now();
    for (let count = 1; slot >= 0; slot = queue.take(), count++) {
      if (count % CLOCK_INTERVAL === 0) this.#now = performance.now();
      this.#latency.record(this.#now - since[slot]!);
      if (queue.status(slot) !== BlkStatus.OK) this.#failed++;
      else if (isRead[slot] === 1) this.#verify(queue, slot, block[slot]!);
      this.#journal?.done(block[slot]!);
      queue.release(slot);
      this.#done++;
    }
    return true;
  }

  #verify(queue: BlkQueue, slot: number, block: number): void {
    if (this.#journal === null || this.#journal.matches(block, queue.words(slot))) return;
    this.#wrong++;
  }

  /** Keeps a queue busy. */
  #fill(lane: Lane): void {
    const { queue } = lane;
    while (queue.inFlight < this.#depth && this.#submitted < this.#limit && this.#now < this.#end) {
      const block = this.#nextBlock();
      if (block < 0) break;
      this.#submit(lane, queue.acquire(), block);
    }
    queue.publish();
  }

  #submit({ queue, block: blocks, since, isRead }: Lane, slot: number, block: number): void {
    const { operation } = this.#options;
    const read = operation === "read" || (operation === "mixed" && this.#nextRandom() % 2 === 0);
    if (!read) this.#journal?.write(block, queue.words(slot));
    blocks[slot] = block;
    since[slot] = this.#now;
    isRead[slot] = read ? 1 : 0;
    const sector = (block * this.#blockSize) / SECTOR;
    queue.submit(slot, read ? BlkRequest.IN : BlkRequest.OUT, sector, this.#blockSize);
    this.#submitted++;
  }

  #nextBlock(): number {
    const { order } = this.#options;
    const wanted = order === "sequential" ? this.#submitted : this.#nextRandom();
    const block = wanted % this.#blocks;
    return this.#journal === null ? block : this.#journal.take(block);
  }

  /** The xorshift32 sequence. */
  #nextRandom(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x;
    return x >>> 0;
  }

  #sleep(): void {
    if (!this.#driver.wait()) {
      const open = this.#submitted - this.#done;
      const message = `${open} requests are not completed after ${DEFAULT_TIMEOUT} ms`;
      throw new BackEndError("silent", message);
    }
  }

  #report(last: boolean): void {
    const { progress } = this.#options;
    if (progress === undefined) return;
    if (!last && this.#now - this.#lastProgress < PROGRESS_INTERVAL) return;
    this.#lastProgress = this.#now;
    const part =
      this.#limit === Infinity
        ? (this.#now - this.#start) / (this.#end - this.#start)
        : this.#done / this.#limit;
    progress({
      done: this.#done,
      fraction: last ? 1 : Math.min(1, part),
      seconds: (this.#now - this.#start) / 1000,
    });
  }
}

/** One queue and what is known about the request in each of its slots. */
class Lane {
  readonly queue: BlkQueue;
  readonly block: Float64Array;
  readonly since: Float64Array;
  readonly isRead: Uint8Array;

  constructor(queue: BlkQueue) {
    this.queue = queue;
    this.block = new Float64Array(queue.depth);
    this.since = new Float64Array(queue.depth);
    this.isRead = new Uint8Array(queue.depth);
  }
}
