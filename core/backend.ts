/** An open device and the front-ends it serves, one after another. */
import type { Static, TObject } from "typebox";
import { accept, EPOLLIN, type Fd } from "../ffi/mod.ts";
import { offeredParts } from "./declared-protocol.ts";
import type { AnyDevice, Device, Host, Opened, QueueSpec } from "./device.ts";
import { type DraftName, type ServedProtocol, serveProtocol } from "./drafts.ts";
import { ProtocolError } from "./errors.ts";
import { mask, RingFeature, VhostFeature } from "./features.ts";
import { FrontEnd } from "./front-end.ts";
import type { Layout } from "./layout.ts";
import type { Log } from "./log.ts";
import type { Loop, Watch } from "./loop.ts";
import { MAX_CONFIG_SIZE } from "./payloads.ts";
import { ProtocolFeature } from "./protocol.ts";
import { Session } from "./session.ts";
import { usable, withheld } from "./withheld.ts";

/** What a back-end offers beside what its device declares, and what it does not. */
export interface OfferOptions {
  /**
   * Offers ACCESS_PLATFORM, for devices behind an IOMMU. Not by default: User-Mode Linux accepts all that
   * is offered, and cannot do this.
   */
  readonly iommu?: boolean | undefined;
  /**
   * Offers RING_RESET, for front-ends that stop a vring when its driver resets it. Not by default: QEMU passes
   * the feature on to the driver and says nothing of a reset, so that we would write to memory that is
   * used for something else by then.
   */
  readonly ringReset?: boolean | undefined;
  /** Offers postcopy migration, and not to add memory region by region, which excludes it. */
  readonly postcopy?: boolean | undefined;
  /** Drafts to serve in place of what has their numbers now; none by default. */
  readonly drafts?: readonly DraftName[] | undefined;
  /** Virtio and protocol features not to offer, as `inflight-shmfd` or `ring-packed`. */
  readonly without?: readonly string[] | undefined;
}

export interface BackendContext extends OfferOptions {
  readonly loop: Loop;
  readonly log: Log;
  /** Called when the device says that it cannot go on; that is only logged otherwise. */
  readonly failed?: ((reason: Error) => void) | undefined;
}

/** How long a listener rests after it failed, in milliseconds. */
const ACCEPT_RETRY = 200;

/** Ring features that every device gets from the framework. */
export const ringFeatures: bigint = mask(
  RingFeature.INDIRECT_DESC,
  RingFeature.EVENT_IDX,
  RingFeature.VERSION_1,
  VhostFeature.LOG_ALL,
  RingFeature.RING_PACKED,
  RingFeature.NOTIFY_ON_EMPTY,
  VhostFeature.PROTOCOL_FEATURES,
);

/** Protocol features that every device gets from the framework. */
export const protocolFeatures: bigint = mask(
  ProtocolFeature.MQ,
  ProtocolFeature.LOG_SHMFD,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.BACKEND_REQ,
  ProtocolFeature.CROSS_ENDIAN,
  ProtocolFeature.CONFIG,
  ProtocolFeature.BACKEND_SEND_FD,
  ProtocolFeature.INFLIGHT_SHMFD,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.INBAND_NOTIFICATIONS,
  ProtocolFeature.STATUS,
  ProtocolFeature.GPA_ADDRESSES,
  ProtocolFeature.GET_VRING_BASE_INFLIGHT,
  ProtocolFeature.GET_VRING_BASE_SKIP_DRAIN,
);

/**
 * Opens a device with validated options. Throws what the device's `open` throws.
 * The loop belongs to the caller, who runs it.
 */
export async function openBackend(
  definition: AnyDevice,
  options: unknown,
  context: BackendContext,
): Promise<Backend> {
  const { host, attach } = prepare(definition, options, context);
  return attach(options, await definition.open(options, host));
}

/** Opens one device for each of `contexts`, which have a loop in common, as `openMany` makes them. */
export async function openBackends(
  definition: AnyDevice,
  options: unknown,
  contexts: readonly BackendContext[],
): Promise<Backend[]> {
  if (contexts.length === 1) return [await openBackend(definition, options, contexts[0]!)];
  if (definition.openMany === undefined) {
    throw new Error(`Cannot serve ${contexts.length} sockets: the device serves one`);
  }
  const places = contexts.map((context) => prepare(definition, options, context));
  const hosts = places.map(({ host }) => host);
  const opened = await definition.openMany(options, hosts);
  return places.map(({ attach }, i) => attach(options, opened[i]!));
}

/** What a device is lent, and how it becomes a back-end once it is open. */
function prepare(definition: AnyDevice, options: unknown, context: BackendContext) {
  const { loop, log } = context;
  if (definition.config.size > MAX_CONFIG_SIZE) {
    throw new RangeError(`Cannot serve a config space of ${definition.config.size} bytes`);
  }
  const { async } = definition;
  if (typeof async === "function" ? async(options) : async) loop.useEvents();
  let backend: Backend | null = null;
  const early: object[] = [];
  const frontEnd = new FrontEnd(definition.sharedMemory ?? []);
  const host: Host = {
    log,
    frontEnd,
    updateConfig: (changes) => {
      if (backend === null) early.push(changes);
      else backend.updateConfig(changes);
    },
    watch: (fd, onReady, events = EPOLLIN) => loop.watch(fd, events, guarded(onReady, log)),
    every: (milliseconds, task) => loop.every(milliseconds, guarded(task, log)),
    after: (milliseconds, task) => loop.after(milliseconds, guarded(task, log)),
    fail: context.failed ?? (({ message }) => log.error(`The device cannot go on: ${message}`)),
  };
  const attach = (options: unknown, opened: Opened<TObject, string>): Backend => {
    backend = new Backend(definition, options, opened, { ...context, frontEnd });
    for (const changes of early) backend.updateConfig(changes);
    return backend;
  };
  return { host, attach };
}

/** Keeps a device's mistake in a callback from ending the loop. */
function guarded<A extends unknown[]>(task: (...args: A) => void, log: Log): typeof task {
  return (...args) => {
    try {
      task(...args);
    } catch (error) {
      log.error("The device failed in a callback", { reason: reasonOf(error) });
    }
  };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

export class Backend {
  readonly definition: AnyDevice;
  readonly device: Device;
  readonly loop: Loop;
  readonly log: Log;
  readonly queues: readonly QueueSpec[];
  /** Virtio feature bits offered to drivers. */
  readonly offered: bigint;
  readonly offeredProtocol: bigint;
  /** The messages that are served. */
  readonly protocol: ServedProtocol;
  readonly frontEnd: FrontEnd;
  readonly #layout: Layout;
  #config: Uint8Array;
  /** The driver is the cause of what happens now. */
  #onBehalf = false;
  #values: Partial<Static<TObject>>;
  #session: Session | null = null;
  #listener: Fd | null = null;
  #listenerWatch: Watch | null = null;
  #closing: Promise<void> | null = null;
  #whenReleased: (() => void) | null = null;

  /** Use `openBackend`. */
  constructor(
    definition: AnyDevice,
    options: unknown,
    opened: Opened<TObject, string>,
    context: BackendContext & { readonly frontEnd: FrontEnd },
  ) {
    const { loop, log, postcopy = false, drafts = [], frontEnd } = context;
    const { queues, features } = definition;
    const offer = opened.offer ?? Object.keys(features);
    this.definition = definition;
    this.device = opened.device;
    this.loop = loop;
    this.log = log;
    this.frontEnd = frontEnd;
    this.protocol = serveProtocol(drafts);
    const { virtio, protocol } = withheld(context.without ?? [], features);
    const parts =
      protocolFeatures |
      mask(postcopy ? ProtocolFeature.PAGEFAULT : ProtocolFeature.CONFIGURE_MEM_SLOTS) |
      offeredParts(definition, opened.device) |
      this.protocol.bits;
    this.offeredProtocol = usable(parts & ~protocol);
    this.queues = typeof queues === "function" ? queues(options) : queues;
    const order = definition.inOrder ? mask(RingFeature.IN_ORDER) : 0n;
    const own = mask(...offer.map((name) => features[name] as number));
    const platform = context.iommu ? mask(RingFeature.ACCESS_PLATFORM) : 0n;
    const reset = context.ringReset ? mask(RingFeature.RING_RESET) : 0n;
    this.offered = (ringFeatures | platform | reset | order | own) & ~virtio;
    this.#layout = definition.config;
    this.#values = opened.config;
    this.#config = this.#layout.encode(opened.config);
  }

  /** Device feature bits by name. */
  get featureNames(): Readonly<Record<string, number>> {
    return this.definition.features;
  }

  /** Accepts front-ends one after another; takes `listener`. The next one waits in its backlog. */
  listen(listener: Fd): void {
    listener.setNonBlocking();
    this.#listener = listener;
    this.#listenerWatch = this.loop.watch(listener.number, EPOLLIN, () => this.#accept(listener));
  }

  #accept(listener: Fd): void {
    try {
      const connection = accept(listener);
      if (connection === null) return;
      this.serve(connection, () => this.#listenerWatch?.modify(EPOLLIN));
      this.#listenerWatch?.modify(0);
    } catch (error) {
      // Too many open files, most likely. The next front-end waits in the backlog: look again later.
      this.log.error("Cannot accept a front-end", { reason: (error as Error).message });
      this.#listenerWatch?.modify(0);
      this.loop.after(ACCEPT_RETRY, () => this.#listenerWatch?.modify(EPOLLIN));
    }
  }

  /** Serves one connection; takes `connection`. Calls `onEnd` when it is over and released. */
  serve(connection: Fd, onEnd: () => void = () => {}): void {
    if (this.#session !== null || this.#closing !== null) {
      connection.close();
      throw new Error("Cannot serve a second front-end while one is connected");
    }
    this.log.info("A front-end connected");
    this.#session = new Session(this, connection, () => {
      this.#session = null;
      this.frontEnd.session = null;
      this.tellDevice((device) => device.disconnected?.());
      onEnd();
      this.#whenReleased?.();
    });
    this.frontEnd.session = this.#session;
  }

  /** Tells the device that the operator wants it to look at its files again. */
  reload(): void {
    guarded(() => this.device.reload?.(), this.log)();
  }

  /** Calls a hook on the driver's behalf: what throws is logged, what changes is not announced. */
  tellDevice(call: (device: Device) => void): void {
    this.#onBehalf = true;
    guarded(() => call(this.device), this.log)();
    this.#onBehalf = false;
  }

  /** A copy of the config space as the driver sees it now, padded with zeros. */
  readConfig(): Uint8Array {
    const bytes = new Uint8Array(MAX_CONFIG_SIZE);
    bytes.set(this.#config);
    this.device.readConfig?.(bytes.subarray(0, this.#config.length));
    return bytes;
  }

  /**
   * Writes to the config space on behalf of the driver. A migration's writes to fields that only
   * the device may change are accepted when they change nothing.
   */
  writeConfig(at: number, data: Uint8Array, migration: boolean): void | Promise<void> {
    if (migration) {
      const now = this.readConfig();
      if (data.every((byte, i) => byte === now[at + i])) return;
    }
    if (this.device.writeConfig === undefined) {
      throw new ProtocolError("the config space is read-only");
    }
    if (at + data.length > this.#config.length) {
      const size = this.#config.length;
      throw new ProtocolError(`Cannot write ${data.length} bytes at ${at} of a config of ${size}`);
    }
    this.#onBehalf = true;
    try {
      return this.device.writeConfig(at, data);
    } finally {
      this.#onBehalf = false;
    }
  }

  /** Changes config fields, and announces it unless the driver itself is the cause. */
  updateConfig(changes: Partial<Static<TObject>>): void {
    this.#values = { ...this.#values, ...changes };
    const config = this.#layout.encode(this.#values);
    if (config.every((byte, i) => byte === this.#config[i])) return;
    this.#config = config;
    const session = this.#session;
    if (this.#onBehalf || session === null) return;
    if (session.hasProtocol(ProtocolFeature.CONFIG)) session.requests?.send("CONFIG_CHANGE_MSG");
  }

  /**
   * Ends the session and the device. Requests in flight are given their time first, so the loop must
   * go on running until the promise is fulfilled.
   */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      this.#listenerWatch?.[Symbol.dispose]();
      this.#listenerWatch = null;
      this.#listener?.close();
      this.#whenReleased = () => {
        guarded(() => this.device[Symbol.dispose]?.(), this.log)();
        resolve();
      };
      if (this.#session === null) this.#whenReleased();
      else this.#session.close();
    });
    return this.#closing;
  }
}
