/**
 * A guest's memory that moves to another machine after the guest. Its regions get empty files, and a
 * Worker fills them from the old ones, page by page: what somebody touches, and after `push` the rest.
 * The main thread itself may sleep until a page comes, like a processor of the guest.
 */
import {
  awaitPages,
  createEventFd,
  createUserfault,
  endAwaitingPages,
  type Fd,
  Mapping,
  signal,
} from "../../ffi/mod.ts";
import { type GuestMemory, type PageServer, sleep } from "../../frontend/mod.ts";
import { PageCell } from "./page-cells.ts";
import type { PageWork } from "./page-worker.ts";

const COMPLETE_LIMIT = 30_000;

export class MovingMemory implements PageServer, AsyncDisposable {
  readonly #cells = new Int32Array(new SharedArrayBuffer(4 * PageCell.SIZE));
  readonly #stop = createEventFd();
  readonly #own = createUserfault();
  readonly #memory: GuestMemory;
  readonly #worker: Worker;
  #sources: Mapping[] = [];
  #remote: Fd | null = null;
  /** Fulfilled when the Worker has ended. */
  #ended: Promise<void> = Promise.resolve();

  private constructor(memory: GuestMemory, worker: Worker) {
    this.#memory = memory;
    this.#worker = worker;
  }

  /** Gets ready. The memory stays where it is until `leave`. */
  static async of(memory: GuestMemory): Promise<MovingMemory> {
    const worker = new Worker(new URL("page-worker.ts", import.meta.url), { type: "module" });
    await new Promise((resolve, reject) => {
      worker.onmessage = resolve;
      worker.onerror = reject;
    });
    return new MovingMemory(memory, worker);
  }

  leave(): void {
    this.#sources = this.#memory.regions.map((region) => {
      using old = region.renew();
      return new Mapping(old, region.plan.size, region.plan.offset);
    });
  }

  serve(remote: Fd, addresses: readonly number[]): void {
    const { regions } = this.#memory;
    for (const { host, plan } of regions) awaitPages(this.#own, host, plan.size);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    this.#worker.onmessage = () => resolve();
    this.#worker.onerror = () => resolve();
    this.#remote = remote.duplicate();
    const work: PageWork = {
      cells: this.#cells,
      stop: this.#stop.number,
      own: this.#own.number,
      remote: this.#remote.number,
      sources: this.#sources.map(({ address }) => address),
      ownAddresses: regions.map(({ host }) => host),
      remoteAddresses: addresses,
      lengths: regions.map(({ plan }) => plan.size),
    };
    this.#worker.postMessage(work);
  }

  /** Pages that the back-end has touched before they came. */
  get remoteFaults(): number {
    return Atomics.load(this.#cells, PageCell.REMOTE_FAULTS);
  }

  /** Pages that this process has touched before they came. */
  get ownFaults(): number {
    return Atomics.load(this.#cells, PageCell.OWN_FAULTS);
  }

  /** Pages that have come. */
  get placed(): number {
    return Atomics.load(this.#cells, PageCell.PLACED);
  }

  /** From now on pages come unasked. */
  push(): void {
    Atomics.store(this.#cells, PageCell.PUSH, 1);
  }

  /** Waits until all pages have come. */
  complete(): void {
    this.push();
    const end = performance.now() + COMPLETE_LIMIT;
    while (Atomics.load(this.#cells, PageCell.COMPLETE) === 0) {
      if (performance.now() > end) throw new Error(`Only ${this.placed} pages have come`);
      sleep(5);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { host, plan } of this.#memory.regions) endAwaitingPages(this.#own, host, plan.size);
    signal(this.#stop.number);
    await this.#ended;
    this.#worker.terminate();
    this.#own.close();
    this.#remote?.close();
    this.#stop.close();
    for (const source of this.#sources) source[Symbol.dispose]();
  }
}
