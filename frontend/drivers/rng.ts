/** An entropy driver (virtio 1.3, 5.4). */
import { type BackEndAddress, Frontend, type FrontendOptions } from "../frontend.ts";
import { SimpleQueue } from "./simple.ts";

export interface RngOptions extends FrontendOptions {
  /** Descriptors of the ring; 4, as QEMU has it, by default. */
  readonly ringSize?: number;
  /** Bytes per request at most; 4096 by default. */
  readonly maxBytes?: number;
}

const nothing = new Uint8Array(0);

export class RngDriver implements Disposable {
  readonly frontend: Frontend;
  readonly queue: SimpleQueue;

  /** Takes a front-end that has not been started, and starts it. */
  constructor(frontend: Frontend, { ringSize = 4, maxBytes = 4096 }: RngOptions = {}) {
    this.frontend = frontend;
    this.queue = new SimpleQueue(frontend, { ringSize, maxBytes });
    frontend.start();
  }

  /** Connects, and starts the device. */
  static connect(to: BackEndAddress, options: RngOptions = {}): RngDriver {
    const frontend = Frontend.open(to, options);
    try {
      return new RngDriver(frontend, options);
    } catch (error) {
      frontend[Symbol.dispose]();
      throw error;
    }
  }

  /** Asks for `length` random bytes, in `buffers` buffers. Returns as many as the device gave. */
  read(length: number, buffers = 1): Uint8Array<ArrayBuffer> {
    return this.queue.exchange(nothing, length, buffers);
  }

  [Symbol.dispose](): void {
    this.frontend[Symbol.dispose]();
  }
}
