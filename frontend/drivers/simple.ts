/** A driver for any device that answers one chain at a time: bytes in, bytes out. */
import { BackEndError } from "../errors.ts";
import type { Frontend } from "../frontend.ts";
import type { Vring } from "../vring.ts";

export interface SimpleQueueOptions {
  /** Which vring; 0 by default. */
  readonly index?: number;
  /** Descriptors of the ring; 16 by default. */
  readonly ringSize?: number;
  /** Bytes of a request, and of an answer, at most; 4096 by default. */
  readonly maxBytes?: number;
}

/** An answer, and the index of the request that it is for. */
export interface Answered {
  readonly request: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** One queue of such a device. The front-end is started once all of its queues are made. */
export class SimpleQueue {
  readonly vring: Vring;
  readonly #frontend: Frontend;
  readonly #request: number;
  readonly #answer: number;
  readonly #maxBytes: number;

  constructor(
    frontend: Frontend,
    { index = 0, ringSize = 16, maxBytes = 4096 }: SimpleQueueOptions = {},
  ) {
    this.#frontend = frontend;
    this.vring = frontend.addVring(index, { size: ringSize });
    this.#maxBytes = maxBytes;
    this.#request = frontend.memory.allocate(maxBytes);
    this.#answer = frontend.memory.allocate(maxBytes);
  }

  /**
   * Makes several requests available at once, each with `room` bytes for its answer. Returns the answers
   * in the order in which the chains were completed. Throws `BackEndError` when one is not in time.
   */
  exchangeAll(requests: readonly Uint8Array[], room: number): Answered[] {
    const { memory } = this.#frontend;
    const { ring } = this.vring;
    const answers = requests.map((request, token) => {
      const [from, to] = [memory.allocate(request.length), memory.allocate(room)];
      memory.write(from, request);
      ring.clear();
      ring.push(from, request.length, false);
      ring.push(to, room, true);
      if (ring.add(token) < 0)
        throw new RangeError("Cannot make so many requests: the ring is full");
      return to;
    });
    this.vring.publish();
    return requests.map(() => {
      if (!this.vring.wait()) {
        throw new BackEndError("silent", `Vring ${this.vring.index} did not complete its chains`);
      }
      ring.next();
      return { request: ring.token, bytes: memory.read(answers[ring.token]!, ring.written) };
    });
  }

  /**
   * Sends `request` and returns what the device wrote into `room` bytes, which are cut into
   * `buffers` buffers. Throws `BackEndError` when the chain is not completed in time.
   */
  exchange(request: Uint8Array, room: number, buffers = 1): Uint8Array<ArrayBuffer> {
    const { memory } = this.#frontend;
    const { ring } = this.vring;
    if (request.length > this.#maxBytes || room > this.#maxBytes) {
      const wanted = Math.max(request.length, room);
      throw new RangeError(`Cannot exchange ${wanted} bytes: the buffers have ${this.#maxBytes}`);
    }
    memory.write(this.#request, request);
    memory.bytes(this.#answer, room).fill(0);
    ring.clear();
    if (request.length > 0) ring.push(this.#request, request.length, false);
    const piece = Math.ceil(room / buffers);
    for (let done = 0; done < room; done += piece) {
      ring.push(this.#answer + done, Math.min(piece, room - done), true);
    }
    if (ring.add(0) < 0) throw new RangeError(`Cannot use ${buffers} buffers: the ring is full`);
    this.vring.publish();
    if (!this.vring.wait()) {
      throw new BackEndError("silent", `Vring ${this.vring.index} did not complete its chain`);
    }
    ring.next();
    return memory.read(this.#answer, ring.written);
  }
}
