/**
 * Watches a front-end while this thread may sleep until it sends a page: when it goes away, a Worker
 * wakes the thread. Pages that are missing are zeros then.
 */
import { createEventFd, type Fd, signal } from "../ffi/mod.ts";
import { moduleUrl } from "./package.ts";
import { type PostcopyWork, WatchCell } from "./postcopy-cells.ts";

/** Milliseconds that the Worker may take to start, and to end. */
const LIMIT = 10_000;
/** Ranges of memory that can be watched: more than a memory table has. */
const MAX_RANGES = 1024;

export class PostcopyWatch implements Disposable {
  readonly #cells = new Int32Array(new SharedArrayBuffer(4 * WatchCell.SIZE));
  /** Address and length of each range. */
  readonly #ranges = new Float64Array(new SharedArrayBuffer(16 * MAX_RANGES));
  readonly #stop = createEventFd();

  /** Both descriptors must stay open until the watch is disposed of. */
  constructor(socket: Fd, userfault: Fd) {
    const work: PostcopyWork = {
      cells: this.#cells,
      ranges: this.#ranges,
      socket: socket.number,
      userfault: userfault.number,
      stop: this.#stop.number,
    };
    // Not imported: that costs each start of a program up to 30 ms, and nearly none needs it.
    const { Worker } = process.getBuiltinModule("node:worker_threads");
    const worker = new Worker(moduleUrl("core/postcopy-worker"), { workerData: work });
    // `ready` tells of it.
    worker.on("error", () => this.#set(WatchCell.ENDED));
    worker.unref();
  }

  /** Waits until the Worker watches. Throws when it does not start. */
  ready(): void {
    if (!this.#await(WatchCell.WATCHING)) throw new Error("Cannot start to watch the front-end");
  }

  /** The front-end went away: what was read since may be zeros that it never sent. */
  get lost(): boolean {
    return Atomics.load(this.#cells, WatchCell.LOST) === 1;
  }

  /** Adds a range of memory that is registered with the userfaultfd and was not touched yet. */
  add(address: number, length: number): void {
    const count = Atomics.load(this.#cells, WatchCell.RANGES);
    if (count === MAX_RANGES) throw new Error(`Cannot watch more than ${MAX_RANGES} regions`);
    this.#ranges[2 * count] = address;
    this.#ranges[2 * count + 1] = length;
    Atomics.store(this.#cells, WatchCell.RANGES, count + 1);
  }

  /** Ends the Worker, and waits until it uses no descriptor any longer. */
  [Symbol.dispose](): void {
    if (this.#stop.closed) return;
    signal(this.#stop.number);
    this.#await(WatchCell.ENDED);
    this.#stop.close();
  }

  #await(cell: number): boolean {
    return Atomics.wait(this.#cells, cell, 0, LIMIT) !== "timed-out";
  }

  #set(cell: number): void {
    Atomics.store(this.#cells, cell, 1);
    Atomics.notify(this.#cells, cell);
  }
}
