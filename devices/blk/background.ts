/** Requests that a store carries out while the loop serves others. */
import type { HeldChain } from "../../core/chain.ts";
import { ChainTransfer, type Transfer } from "./store.ts";

/** The request would have to wait, or goes on by itself. No error number is that large. */
export const WAIT = -1_000_100;

export const Work = { READ: 0, WRITE: 1, FLUSH: 2, DISCARD: 3, WRITE_ZEROES: 4 } as const;

/** A request in flight. One object serves many, one after another. */
export class Job {
  /** One of `Work`. */
  work = 0;
  /** Where on the disk, and how much, in bytes. */
  offset = 0;
  length = 0;
  /** WRITE_ZEROES: storage may be freed. */
  unmap = false;
  /** The data of READ and WRITE. */
  readonly transfer = new ChainTransfer();
  /** The request, until it is completed. Not live any more when its queue was given up. */
  chain: HeldChain | null = null;
  /** Called with the result when `Background.start` has answered `WAIT`; never from within it. */
  ended: (job: Job, result: number) => void = () => {};
  /** For the background: bytes moved, and how often it was tried again. */
  done = 0;
  tries = 0;
  /** What the background knows the job by. */
  readonly token: number;

  constructor(token: number) {
    this.token = token;
  }
}

export interface Background extends Disposable {
  /** True when no further job can be taken until one has ended. */
  readonly full: boolean;
  /** Reads, if that needs no waiting. Returns 0, a negative error number, or `WAIT`. */
  tryRead(transfer: Transfer, offset: number): number;
  tryWrite(transfer: Transfer, offset: number): number;
  /** Starts a job. Returns `WAIT`, or its result when it is done already. Takes effect with `submit`. */
  start(job: Job): number;
  /** Hands over what was started, and ends what is done. */
  submit(): void;
  /** Waits until all jobs have ended, at most so long. Returns false when some have not. */
  finish(milliseconds: number): boolean;
}
