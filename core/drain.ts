/** Handling the available chains of one virtqueue: the loop that no device has to write. */
import { type Device, STOP } from "./device.ts";
import { GuestError } from "./errors.ts";
import { TranslationMiss } from "./iotlb.ts";
import type { Queue } from "./queue.ts";

/** Chains handled before other queues and sockets get their turn. */
const BUDGET = 512;
/** The same in milliseconds: a chain may cost anything from a microsecond to a slow disk's flush. */
const TIME_SLICE = 10;
/** Completions published together: enough to share a notification, few enough to overlap work. */
const PUBLISH_BATCH = 16;

export class Drain {
  readonly #queue: Queue;
  readonly #device: Device;
  /** The handler has the chain that `next` loaded. */
  #handling = false;
  /** Chains until the clock is read again. */
  #unchecked = 1;
  #started = 0;
  /** The handler left a chain where it was: the device resumes the queue when it can go on. */
  stopped = false;
  /** `look` has loaded a chain. */
  #loaded = false;
  /** Told to look at an empty ring from time to time, instead of having the driver kick. */
  readonly #watched: () => boolean;

  /** `watched` is asked when the ring is empty: it answers whether somebody will call `look`. */
  constructor(queue: Queue, device: Device, watched: () => boolean = () => false) {
    this.#queue = queue;
    this.#device = device;
    this.#watched = watched;
  }

  /** Tells whether there is a chain to `run` with, while the driver does not kick. */
  look(): boolean {
    this.#loaded = this.#queue.advance();
    return this.#loaded;
  }

  /** Asks for kicks again. Returns true when there are chains to `run` with. */
  rest(): boolean {
    return this.#queue.requestKick();
  }

  /**
   * Handles chains until there are none, the handler stops, or others must get their turn. Returns
   * true in the last case. Throws `GuestError` for a wrong driver and what the handler throws.
   */
  run(): boolean {
    const queue = this.#queue;
    queue.draining = true;
    this.stopped = false;
    try {
      const more = this.#handleAll();
      this.#publish();
      return more;
    } catch (error) {
      if (this.#handling) queue.putBack();
      this.#handling = false;
      // What comes before a chain that has to wait does not wait with it.
      if (error instanceof TranslationMiss || error instanceof GuestError) this.#publish();
      else queue.publish();
      throw error;
    } finally {
      queue.draining = false;
    }
  }

  #handleAll(): boolean {
    const queue = this.#queue;
    let staged = 0;
    this.#unchecked = 1;
    this.#started = performance.now();
    queue.suppressKicks();
    for (let budget = BUDGET; budget > 0; budget--) {
      if (this.#loaded) this.#loaded = false;
      else if (!queue.advance()) {
        this.#publish();
        staged = 0;
        if (this.#watched()) return false;
        // A driver that goes on adding chains spends the budget as well.
        if (!queue.requestKick()) return false;
        queue.suppressKicks();
        continue;
      }
      const head = queue.chain.head;
      const outcome = this.#handle();
      if (outcome === STOP) {
        this.stopped = true;
        return false;
      }
      if (outcome >= 0) {
        queue.complete(head, outcome);
        if (++staged === PUBLISH_BATCH) {
          queue.publish();
          staged = 0;
        }
      }
      if (--this.#unchecked === 0 && this.#timeIsUp(BUDGET - budget + 1)) return true;
    }
    return true;
  }

  #handle(): number {
    const queue = this.#queue;
    const device = this.#device;
    this.#handling = true;
    const outcome = device.handle === undefined ? STOP : device.handle(queue.chain, queue);
    // Handlers written in JavaScript may answer nothing, or a promise.
    if (!(outcome >= STOP)) throw new TypeError(`A handler answered ${outcome}`);
    this.#handling = false;
    if (outcome === STOP) queue.putBack();
    return outcome;
  }

  #publish(): void {
    this.#device.flush?.(this.#queue);
    this.#queue.publish();
  }

  /** Called after the first chain, and then as seldom as the chains' cost allows. */
  #timeIsUp(handled: number): boolean {
    const spent = performance.now() - this.#started;
    this.#unchecked = (spent / handled) * PUBLISH_BATCH < TIME_SLICE ? PUBLISH_BATCH : 1;
    return spent > TIME_SLICE;
  }
}
