/** `--evdev-path`: an input device of the host, which the guest has to itself while it is grabbed. */
import type { Host } from "../../../core/device.ts";
import { errnoText, SystemError } from "../../../ffi/mod.ts";
import { type Description, type EventSink, hasBit, type Source } from "../source.ts";
import { DeviceState } from "../state.ts";
import { EventType, KeyValue, Syn } from "../wire.ts";
import { EvdevDevice, slotsOf } from "./evdev-device.ts";

/** How often a device that is gone is looked for, in milliseconds. */
const RETRY_INTERVAL = 250;
/** How long a driver may take to fetch the last events, in milliseconds. */
const LAST_EVENTS_LIMIT = 500;

export interface EvdevOptions {
  readonly path: string;
  /** Take the device from the host. */
  readonly grab: boolean;
  /** Wait for a device that is not there, now or later, instead of ending. */
  readonly wait: boolean;
  /** In place of the device's own. */
  readonly name?: string | undefined;
  readonly serial?: string | undefined;
}

/** What goes to the guest. LEDs, sounds and repetition go the other way, and come back from evdev. */
const inbound: ReadonlySet<number> = new Set([
  EventType.SYN,
  EventType.KEY,
  EventType.REL,
  EventType.ABS,
  EventType.MSC,
  EventType.SW,
]);

/** Opens a device now. Null while there is none. */
function tryOpen({ path, grab }: EvdevOptions): EvdevDevice | null {
  try {
    return new EvdevDevice(path, grab);
  } catch (error) {
    if (error instanceof SystemError && error.syscall === "open") return null;
    throw error;
  }
}

/** Opens the device. With `wait`, the promise is fulfilled when it is there. */
export async function openEvdev(options: EvdevOptions, host: Host): Promise<Source> {
  const { path, grab, wait } = options;
  if (!wait) return new EvdevSource(new EvdevDevice(path, grab), options, host);
  let device = tryOpen(options);
  if (device === null) host.log.info(`Waiting for the input device ${path}`);
  while (device === null) {
    await new Promise((resolve) => setTimeout(resolve, RETRY_INTERVAL));
    device = tryOpen(options);
  }
  return new EvdevSource(device, options, host);
}

/** Whether a driver that knows one device can go on with another. */
function alike(a: Description, b: Description): boolean {
  const shape = ({ codes, axes, properties }: Description): string =>
    JSON.stringify([[...codes], [...axes], properties]);
  return shape(a) === shape(b);
}

class EvdevSource implements Source {
  readonly description: Description;
  readonly #options: EvdevOptions;
  readonly #host: Host;
  #device: EvdevDevice | null;
  #watch: Disposable | null = null;
  #retry: Disposable | null = null;
  #sink: EventSink | null = null;
  /** What the events told of the device so far. */
  #state: DeviceState;
  /** The kernel has dropped events, and what comes up to the end of the packet makes no sense. */
  #lost = false;
  /** Something of the current packet went to the guest: the end of the packet has to follow. */
  #begun = false;
  /** The guest repeats keys itself. */
  readonly #repeats: boolean;

  constructor(device: EvdevDevice, options: EvdevOptions, host: Host) {
    const { name = device.description.name, serial = device.description.serial } = options;
    this.description = { ...device.description, name, serial };
    this.#device = device;
    this.#options = options;
    this.#host = host;
    this.#state = new DeviceState(slotsOf(device.description));
    this.#repeats = device.description.codes.has(EventType.REP);
  }

  begin(sink: EventSink): void {
    this.#sink = sink;
    this.#follow(this.#device!);
  }

  #follow(device: EvdevDevice): void {
    this.#device = device;
    this.#watch = this.#host.watch(device.fd.number, () => {
      const end = device.read(this.#take);
      if (end !== null) this.#gone(end);
    });
  }

  readonly #take = (type: number, code: number, value: number): void => {
    if (type === EventType.SYN && code === Syn.DROPPED) this.#lost = true;
    if (this.#lost) {
      if (type === EventType.SYN && code === Syn.REPORT) this.#catchUp();
      return;
    }
    if (type === EventType.KEY && value === KeyValue.REPEAT && this.#repeats) return;
    const ends = type === EventType.SYN && code === Syn.REPORT;
    // A held key repeats all the time: packets of which nothing is left are none.
    if (!inbound.has(type) || (ends && !this.#begun)) return;
    this.#begun = !ends;
    this.#emit(type, code, value);
  };

  #emit(type: number, code: number, value: number): void {
    this.#state.apply(type, code, value);
    this.#sink!.emit(type, code, value);
  }

  /** Asks the device for what the dropped events would have told. */
  #catchUp(): void {
    this.#lost = false;
    const events = this.#state.eventsTo(this.#device!.state());
    this.#host.log.warn("The input device was read too slowly: its state was asked for");
    this.#emitPacket(events);
    if (events.length === 0 && this.#begun) this.#emit(EventType.SYN, Syn.REPORT, 0);
    this.#begun = false;
  }

  #emitPacket(events: readonly number[]): void {
    for (let i = 0; i < events.length; i += 3) {
      this.#emit(events[i]!, events[i + 1]!, events[i + 2]!);
    }
    if (events.length > 0) this.#emit(EventType.SYN, Syn.REPORT, 0);
  }

  #gone(why: string): void {
    const { path, wait } = this.#options;
    this.#close();
    // What was begun does not end, and no key stays down.
    this.#emit(EventType.SYN, Syn.REPORT, 0);
    this.#emitPacket(this.#state.eventsToRest());
    const message = `The input device ${path} is gone: ${why}`;
    if (!wait) return this.#end(new Error(message));
    this.#host.log.warn(`${message}; waiting for it to come back`);
    this.#retry = this.#host.every(RETRY_INTERVAL, () => this.#tryAgain());
  }

  /** Ends the program once the driver has got the last events, or does not take them. */
  #end(reason: Error): void {
    const limit = performance.now() + LAST_EVENTS_LIMIT;
    this.#retry = this.#host.every(LAST_EVENTS_LIMIT / 50, () => {
      if (this.#sink!.empty || performance.now() > limit) this.#host.fail(reason);
    });
  }

  #tryAgain(): void {
    const device = tryOpen(this.#options);
    if (device === null) return;
    this.#retry?.[Symbol.dispose]();
    this.#retry = null;
    this.#host.log.info(`The input device ${this.#options.path} is back`);
    if (!alike(this.description, device.description)) {
      const { name } = device.description;
      this.#host.log.warn("It is another device, and the guest was told of the first", { name });
    }
    this.#lost = false;
    this.#begun = false;
    this.#state = new DeviceState(slotsOf(this.description));
    this.#follow(device);
  }

  status(type: number, code: number, value: number): void {
    // Only what it has: the guest may ask for anything.
    if (this.#device === null || !hasBit(this.description.codes.get(type), code)) return;
    const error = this.#device.write(type, code, value) || this.#device.write(0, 0, 0);
    if (error === 0) return;
    this.#host.log.debug("The input device did not take an event", { reason: errnoText(error) });
  }

  #close(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = null;
    this.#device?.[Symbol.dispose]();
    this.#device = null;
  }

  [Symbol.dispose](): void {
    this.#retry?.[Symbol.dispose]();
    this.#close();
  }
}
