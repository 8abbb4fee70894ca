/** The virtio input device (virtio 1.3, 5.8). */
import { type Static, type TObject, Type } from "typebox";
import type { Chain } from "../../core/chain.ts";
import {
  type AnyDevice,
  type Device,
  defineDevice,
  type Host,
  STOP,
  type Virtqueue,
} from "../../core/device.ts";
import { Backlog } from "./backlog.ts";
import { ConfigSpace } from "./config.ts";
import type { EventSink, Source } from "./source.ts";
import { openSource, sourceOptions } from "./sources/mod.ts";
import { Abs, codeCounts, Event, EventType, InputConfig } from "./wire.ts";

export { describeKind, type Kind, kinds } from "./kinds.ts";
export type { AxisRange, Description, DeviceIds, EventSink, Source } from "./source.ts";
export { Abs, Button, EventType, KeyValue, Property, Rel, Syn } from "./wire.ts";

const EVENT_QUEUE = 0;
/** Sources that can be held back are when more events than this wait. */
const HIGH_WATER = 256;

/**
 * What a driver may send back to a source. Not keys: a device that is not grabbed would type them
 * into the host.
 */
const statusTypes: ReadonlySet<number> = new Set([EventType.LED, EventType.SND, EventType.REP]);

/** What an input device of its own source declares. */
export interface InputDevice<O extends TObject> {
  /** The name of the program's device, as `input`. */
  readonly name: string;
  readonly summary: string;
  readonly options: O;
  /** True when the source emits events from promises, servers and the like. */
  readonly async?: boolean;
  readonly capabilities?: readonly string[];
  open(options: Static<O>, host: Host<typeof InputConfig.schema>): Source | Promise<Source>;
}

/** Makes an input device of anything that emits events. */
export function inputDevice<O extends TObject>(declared: InputDevice<O>): AnyDevice {
  return defineDevice({
    type: "input",
    name: declared.name,
    id: 18,
    summary: declared.summary,
    options: declared.options,
    capabilities: declared.capabilities ?? [],
    features: {},
    config: InputConfig,
    queues: [{ name: "event" }, { name: "status" }],
    async: declared.async ?? false,
    async open(options, host) {
      const source = await declared.open(options as Static<O>, host);
      try {
        return { config: {}, device: new InputSession(source, host) };
      } catch (error) {
        source[Symbol.dispose]();
        throw error;
      }
    },
  });
}

/** One device, and the driver that it has at the moment. */
class InputSession implements Device, EventSink {
  readonly #source: Source;
  readonly #host: Host<typeof InputConfig.schema>;
  readonly #config: ConfigSpace;
  readonly #backlog: Backlog;
  #queue: Virtqueue | null = null;
  /** A driver has started the event queue since the last reset. */
  #attached = false;
  /** The source was told that it may emit, and is not at it. */
  #announced = false;
  #dropped = 0;

  constructor(source: Source, host: Host<typeof InputConfig.schema>) {
    const slots = (source.description.axes.get(Abs.MT_SLOT)?.maximum ?? -1) + 1;
    this.#source = source;
    this.#host = host;
    this.#config = new ConfigSpace(source.description);
    this.#backlog = new Backlog(slots);
    source.begin(this);
  }

  get open(): boolean {
    return this.#queue !== null && this.#backlog.length < HIGH_WATER;
  }

  get empty(): boolean {
    return this.#backlog.length === 0;
  }

  emit(type: number, code: number, value: number): void {
    // Whoever comes later does not want to know what was typed before.
    if (!this.#attached) return this.#backlog.skip(type, code, value);
    if (this.#backlog.push(type, code, value)) this.#queue?.resume();
    if (this.#backlog.dropped !== this.#dropped) this.#reportDropped();
  }

  #reportDropped(): void {
    this.#dropped = this.#backlog.dropped;
    this.#host.log.warn("The guest takes its events too slowly: packets were dropped");
  }

  handle(chain: Chain, queue: Virtqueue): number {
    if (queue.index !== EVENT_QUEUE) return this.#takeStatus(chain);
    const backlog = this.#backlog;
    if (!backlog.ready) return STOP;
    // What cannot hold an event goes back empty.
    if (chain.writableBytes < Event.size) return 0;
    backlog.next();
    const { type, code, value } = backlog;
    chain.writeU8(Event.type, type & 0xff);
    chain.writeU8(Event.type + 1, type >> 8);
    chain.writeU8(Event.code, code & 0xff);
    chain.writeU8(Event.code + 1, code >> 8);
    chain.writeU8(Event.value, value & 0xff);
    chain.writeU8(Event.value + 1, (value >> 8) & 0xff);
    chain.writeU8(Event.value + 2, (value >> 16) & 0xff);
    chain.writeU8(Event.value + 3, value >>> 24);
    return Event.size;
  }

  /** Ends a drain: there may be room for more events now. */
  flush(queue: Virtqueue): void {
    if (queue.index === EVENT_QUEUE) this.#announce();
  }

  #announce(): void {
    if (this.#announced || !this.open || this.#source.opened === undefined) return;
    this.#announced = true;
    this.#host.after(0, () => {
      this.#announced = false;
      if (this.open) this.#source.opened?.();
    });
  }

  #takeStatus(chain: Chain): number {
    if (chain.readableBytes < Event.size) return 0;
    const type = chain.readU16(Event.type);
    const code = chain.readU16(Event.code);
    const value = chain.readU32(Event.value) | 0;
    const known = code < (codeCounts.get(type) ?? 0);
    if (known && statusTypes.has(type)) this.#source.status?.(type, code, value);
    return 0;
  }

  started(queue: Virtqueue): void {
    if (queue.index !== EVENT_QUEUE) return;
    this.#queue = queue;
    this.#attached = true;
  }

  stopping(queue: Virtqueue): void {
    if (queue.index === EVENT_QUEUE) this.#queue = null;
  }

  readConfig(config: Uint8Array): void {
    this.#config.read(config);
  }

  writeConfig(at: number, data: Uint8Array): void {
    this.#config.write(at, data);
  }

  reset(): void {
    this.#attached = false;
    this.#config.reset();
    this.#backlog.clear();
  }

  disconnected(): void {
    this.#queue = null;
    this.reset();
  }

  [Symbol.dispose](): void {
    this.#source[Symbol.dispose]();
  }
}

/** `vhost-user-input`: an input device of the host, or one that a script or a program plays. */
export const input: AnyDevice = inputDevice({
  name: "input",
  summary: "Input device: one of the host's, or a keyboard, mouse or touch screen that is scripted",
  options: Type.Object(sourceOptions),
  capabilities: ["evdev-path", "no-grab"],
  open: openSource,
});

export default input;
