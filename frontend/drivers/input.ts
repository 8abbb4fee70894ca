/** An input driver (virtio 1.3, 5.8). */
import { BackEndError } from "../errors.ts";
import { type BackEndAddress, Frontend, type FrontendOptions } from "../frontend.ts";
import type { Vring, VringOptions } from "../vring.ts";
import {
  decodeInputEvent,
  encodeInputEvent,
  INPUT_EVENT_SIZE,
  InputConfigSpace,
  type InputEvent,
} from "./input-wire.ts";
import { SimpleQueue } from "./simple.ts";

export interface InputOptions extends FrontendOptions {
  /** Descriptors of each ring; 4, as QEMU has it, by default. */
  readonly ringSize?: number;
  /** Event buffers to offer at the start; as many as fit by default. */
  readonly buffers?: number;
  /** Further settings of the event queue. */
  readonly vring?: Partial<VringOptions>;
}

const EVENT_QUEUE = 0;
const STATUS_QUEUE = 1;
const STATUS_MAX = 4096;

const { size, select, subsel, length, data } = InputConfigSpace;

export class InputDriver implements Disposable {
  readonly frontend: Frontend;
  readonly events: Vring;
  readonly status: SimpleQueue;
  /** Where each buffer is that events go to. */
  readonly #buffers: readonly number[];

  /** Takes a front-end that has not been started, and starts it. */
  constructor(frontend: Frontend, options: InputOptions = {}) {
    const { ringSize = 4, buffers = ringSize } = options;
    this.frontend = frontend;
    this.events = frontend.addVring(EVENT_QUEUE, { ...options.vring, size: ringSize });
    this.status = new SimpleQueue(frontend, {
      index: STATUS_QUEUE,
      ringSize,
      maxBytes: STATUS_MAX,
    });
    this.#buffers = Array.from({ length: ringSize }, () =>
      frontend.memory.allocate(INPUT_EVENT_SIZE),
    );
    frontend.start();
    for (let token = 0; token < buffers; token++) this.#offer(token);
    this.events.publish();
  }

  /** Connects, and starts the device. */
  static connect(to: BackEndAddress, options: InputOptions = {}): InputDriver {
    const frontend = Frontend.open(to, options);
    try {
      return new InputDriver(frontend, options);
    } catch (error) {
      frontend[Symbol.dispose]();
      throw error;
    }
  }

  #offer(token: number): void {
    const { ring } = this.events;
    ring.clear();
    ring.push(this.#buffers[token]!, INPUT_EVENT_SIZE, true);
    ring.add(token);
  }

  /** Offers the buffers that were withheld. */
  offerAll(): void {
    for (let token = this.events.ring.inFlight; token < this.#buffers.length; token++) {
      this.#offer(token);
    }
    this.events.publish();
  }

  /** Takes the events that are there, and offers their buffers again. */
  take(): InputEvent[] {
    const { ring } = this.events;
    const taken: InputEvent[] = [];
    while (ring.next()) {
      const { token, written } = ring;
      if (written !== INPUT_EVENT_SIZE) {
        throw new BackEndError("malformed", `An event has ${written} bytes`);
      }
      taken.push(decodeInputEvent(this.frontend.memory.read(this.#buffers[token]!, written)));
      this.#offer(token);
    }
    this.events.publish();
    return taken;
  }

  /** Waits for `count` events. Throws `BackEndError` when they do not come in time. */
  read(count: number, milliseconds?: number): InputEvent[] {
    const events: InputEvent[] = [];
    while (events.length < count) {
      if (!this.events.wait(milliseconds)) {
        throw new BackEndError("silent", `There were ${events.length} of ${count} events`);
      }
      events.push(...this.take());
    }
    return events;
  }

  /** True when no event comes for some time. */
  quiet(milliseconds: number): boolean {
    return !this.events.wait(milliseconds);
  }

  /** Sends an event to the device, as one that switches an LED. Returns the bytes the device wrote. */
  send(event: InputEvent): number {
    return this.status.exchange(encodeInputEvent(event), 0).length;
  }

  /**
   * Asks for one of the device's descriptions. `whole`: writes all of config space for the two bytes
   * that change, as QEMU does.
   */
  describe(selected: number, subselected = 0, whole = false): Uint8Array {
    const { frontend } = this;
    if (whole) {
      for (const [at, value] of [
        [select, selected],
        [subsel, subselected],
      ] as const) {
        const space = this.#readConfig();
        space[at] = value;
        frontend.setConfig(0, space);
      }
    } else frontend.setConfig(select, Uint8Array.of(selected, subselected));
    const space = this.#readConfig();
    if (space[select] !== selected || space[subsel] !== subselected) {
      throw new BackEndError("malformed", "The config space does not keep what was selected");
    }
    return space.slice(data, data + space[length]!);
  }

  #readConfig(): Uint8Array {
    const space = this.frontend.getConfig(0, size);
    if (space === null) throw new BackEndError("refused", "The config space cannot be read");
    return space;
  }

  [Symbol.dispose](): void {
    this.frontend[Symbol.dispose]();
  }
}
