/** Requests that go on after their chains were handled: held, carried out in the background, completed. */
import type { Chain, HeldChain } from "../../core/chain.ts";
import type { Virtqueue } from "../../core/device.ts";
import { type Background, Job, WAIT, Work } from "./background.ts";
import { RequestHeader, SEGMENT_UNMAP } from "./wire.ts";

/** A segment of DISCARD or WRITE_ZEROES; `offset` and `length` in bytes. */
export interface DiskSegment {
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
}

export interface LaterContext {
  /** Tells whether what was written has to be durable before its request is completed. */
  durable(): boolean;
  /** Writes the status for a result, data bytes or an error. Returns the bytes written. */
  settle(chain: HeldChain, result: number): number;
}

/** A job that belongs to a request, with what is left of it. */
class RequestJob extends Job {
  /** Data bytes for the driver. */
  result = 0;
  /** What follows it must be durable. */
  changes = false;
  segments: readonly DiskSegment[] = [];
  segment = 0;
}

export class LaterRequests {
  readonly background: Background;
  readonly #context: LaterContext;
  /** Jobs without work. */
  readonly #free: RequestJob[] = [];
  #made = 0;
  /** Queues that found no room. */
  readonly #stopped = new Set<Virtqueue>();

  constructor(background: Background, context: LaterContext) {
    this.background = background;
    this.#context = context;
  }

  submit(): void {
    this.background.submit();
  }

  finish(milliseconds: number): void {
    this.background.finish(milliseconds);
  }

  /** False when `queue` has to stop: it is resumed when there is room. */
  hasRoom(queue: Virtqueue): boolean {
    if (!this.background.full) return true;
    this.#stopped.add(queue);
    return false;
  }

  /** Reads or writes a request's data. All of these return `WAIT`, or the request's result. */
  move(work: number, chain: Chain, offset: number, length: number): number {
    const reads = work === Work.READ;
    const job = this.#take(chain);
    job.transfer.select(job.chain!, reads ? 0 : RequestHeader.size, length, reads);
    job.result = reads ? length : 0;
    job.changes = !reads;
    return this.#begin(job, work, offset, length);
  }

  flush(chain: Chain): number {
    return this.#begin(this.#take(chain), Work.FLUSH, 0, 0);
  }

  /** DISCARD or WRITE_ZEROES, one segment after another. There is at least one. */
  segments(chain: Chain, segments: readonly DiskSegment[], zeroes: boolean): number {
    const job = this.#take(chain);
    job.segments = segments;
    job.changes = zeroes;
    return this.#beginSegment(job, zeroes ? Work.WRITE_ZEROES : Work.DISCARD);
  }

  #take(chain: Chain): RequestJob {
    const job = this.#free.pop() ?? this.#make();
    job.chain = chain.hold();
    job.result = 0;
    job.changes = false;
    job.segment = 0;
    return job;
  }

  #make(): RequestJob {
    const job = new RequestJob(this.#made++);
    job.ended = this.#ended;
    return job;
  }

  /** The chain is held from here on, so also what ends at once is completed like the others. */
  #begin(job: RequestJob, work: number, offset: number, length: number): typeof WAIT {
    job.work = work;
    job.offset = offset;
    job.length = length;
    const result = this.background.start(job);
    if (result !== WAIT) this.#ended(job, result);
    return WAIT;
  }

  #beginSegment(job: RequestJob, work: number): typeof WAIT {
    const { offset, length, flags } = job.segments[job.segment++]!;
    job.unmap = (flags & SEGMENT_UNMAP) !== 0;
    return this.#begin(job, work, offset, length);
  }

  readonly #ended = (ended: Job, error: number): void => {
    const job = ended as RequestJob;
    if (error >= 0 && job.segment < job.segments.length) {
      this.#beginSegment(job, job.work);
      return;
    }
    // The write cache may have been switched off meanwhile.
    if (error >= 0 && job.changes && this.#context.durable()) {
      job.changes = false;
      this.#begin(job, Work.FLUSH, 0, 0);
      return;
    }
    this.#complete(job, error < 0 ? error : job.result);
  };

  #complete(job: RequestJob, result: number): void {
    const chain = job.chain!;
    job.chain = null;
    job.segments = [];
    this.#free.push(job);
    chain.complete(chain.live ? this.#context.settle(chain, result) : 0);
    if (this.#stopped.size > 0) this.#resume();
  }

  #resume(): void {
    for (const queue of this.#stopped) queue.resume();
    this.#stopped.clear();
  }
}
