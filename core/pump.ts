/** The evented mode's Worker, seen from the main thread. */
import { runtime } from "../ffi/mod.ts";
import { moduleUrl } from "./package.ts";
import { PumpCell } from "./pump-cells.ts";

export interface PumpEvents {
  /** The epoll descriptor has events, or the time is over. Answer with `wait`. */
  ready(): void;
  failed(error: unknown): void;
}

/**
 * Waits for an epoll descriptor in a Worker. The descriptor is level-triggered, so the Worker waits
 * again only when told to: after the main thread has taken the events.
 */
export class Pump {
  readonly #cells: Int32Array<SharedArrayBuffer>;
  readonly #worker: Worker;

  constructor(epollFd: number, events: PumpEvents) {
    this.#cells = new Int32Array(new SharedArrayBuffer(4 * PumpCell.SIZE));
    this.#worker = new Worker(moduleUrl("core/pump-worker"), { type: "module" });
    // A message sent before the Worker listens would be lost, so it says when it does.
    this.#worker.onmessage = () => {
      this.#worker.onmessage = () => events.ready();
      this.#worker.postMessage({ epollFd, cells: this.#cells });
    };
    this.#worker.onerror = (event) => {
      events.failed(new Error(`The event pump failed under ${runtime.name}: ${event.message}`));
    };
  }

  /** Lets the Worker wait for at most `timeout` milliseconds. */
  wait(timeout: number): void {
    Atomics.store(this.#cells, PumpCell.TIMEOUT, timeout);
    Atomics.store(this.#cells, PumpCell.GO, 1);
    Atomics.notify(this.#cells, PumpCell.GO);
  }

  /** Ends the Worker. Its wait must end by itself: make the epoll descriptor ready first. */
  stop(): void {
    Atomics.store(this.#cells, PumpCell.STOP, 1);
    this.wait(0);
  }
}
