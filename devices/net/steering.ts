/**
 * Which receive queues get frames: those of the pairs that the driver uses (virtio 1.3, 5.1.6.5.5), and
 * none while the link is down.
 */
import type { Virtqueue } from "../../core/device.ts";
import type { Port } from "./port.ts";
import type { Receiver } from "./receiver.ts";

export class Steering {
  readonly #receivers: readonly Receiver[];
  readonly #port: Port;
  /** Receive queues that run, by pair. */
  readonly #queues: (Virtqueue | null)[];
  #limit: number;

  constructor(receivers: readonly Receiver[], port: Port) {
    this.#receivers = receivers;
    this.#port = port;
    this.#queues = receivers.map(() => null);
    this.#limit = receivers.length;
  }

  /** Pairs below this one get frames. */
  set limit(pairs: number) {
    if (pairs === this.#limit) return;
    this.#limit = pairs;
    for (const [pair, queue] of this.#queues.entries()) {
      const receiver = this.#receivers[pair]!;
      if (queue === null || receiver.running === pair < pairs) continue;
      if (pair < pairs) this.#use(pair, queue);
      else {
        receiver.publish();
        this.#leave(pair);
      }
    }
  }

  started(pair: number, queue: Virtqueue): void {
    this.#queues[pair] = queue;
    if (pair < this.#limit) this.#use(pair, queue);
  }

  stopping(pair: number, queue: Virtqueue): void {
    if (this.#queues[pair] !== queue) return;
    this.#queues[pair] = null;
    this.#leave(pair);
  }

  /** A receive queue has buffers again. */
  wake(pair: number): void {
    if (this.#receivers[pair]!.running) this.#port.wake?.(pair);
  }

  #use(pair: number, queue: Virtqueue): void {
    this.#receivers[pair]!.queue = queue;
    this.#port.wake?.(pair);
  }

  #leave(pair: number): void {
    this.#receivers[pair]!.stop();
    this.#port.sleep?.(pair);
  }
}
