/** What a device declares, what it implements, and what the framework lends it. */
import type { Static, TObject } from "typebox";
import type { Fd } from "../ffi/mod.ts";
import type { Chain, HeldChain } from "./chain.ts";
import type { CryptoSessionRequest } from "./crypto-session.ts";
import type { DeclaredProtocol } from "./declared-protocol.ts";
import type { Layout } from "./layout.ts";
import type { Log } from "./log.ts";
import type { Watch } from "./loop.ts";

/** The handler keeps the chain (`chain.hold()`) and completes it later. */
export const PENDING = -1;
/** The handler does not take the chain: it stays available, and the drain ends. */
export const STOP = -2;
/** Bytes written into the chain's writable buffers, or `PENDING`, or `STOP`. */
export type Outcome = number;

/** A virtqueue as a device sees it. */
export interface Virtqueue {
  readonly index: number;
  readonly name: string;
  /** Descriptors in the ring. */
  readonly size: number;
  /**
   * The ring began anew: its driver is another one than before, if there was one. False for a ring
   * that goes on, as after a pause of the guest.
   */
  readonly fresh: boolean;
  /** The chain that `next` loaded; the same object every time. */
  readonly chain: Chain;
  /** Chains taken and not completed yet. */
  readonly inFlight: number;
  /**
   * Loads the next available chain. False when there is none or the queue is stopping. For
   * device-initiated traffic; ask for a kick with `resume` when it came too early.
   */
  next(): boolean;
  /**
   * Makes a chain available again, the one that `next` loaded unless `head` names another: always the
   * latest of those taken and not put back, which must not be completed.
   */
  putBack(head?: number): void;
  /** Stages a chain in the used ring, by its `head`. `written` counts bytes. */
  complete(head: number, written: number): void;
  /** Shows staged completions to the driver and notifies it if it wants that. */
  publish(): void;
  /** Ends what `STOP` began: the queue is drained again soon. */
  resume(): void;
}

/** A running device. Every member is optional except what the device needs. */
export interface Device {
  /** Serves one available chain. Must not keep `chain` itself: the next request reuses it. */
  handle?(chain: Chain, queue: Virtqueue): Outcome;
  /** Ends a drain, before completions are published: submit what was batched. */
  flush?(queue: Virtqueue): void;
  /** The driver accepted `features`, a subset of what was offered. */
  negotiated?(features: bigint): void;
  /** The vring is ready and enabled; a drain follows without waiting for a kick. */
  started?(queue: Virtqueue): void;
  /**
   * The vring stops or is disabled. Finish or cancel held chains: a stop is answered when none is in
   * flight.
   */
  stopping?(queue: Virtqueue): void;
  /**
   * The vring stops without waiting for held chains, after `stopping`: another back-end will carry out
   * whatever is in flight. What nobody can take back any more must end before this returns.
   */
  abandoning?(queue: Virtqueue): void;
  /** Last-moment changes to a copy of the config space that is about to be read. */
  readConfig?(config: Uint8Array): void;
  /**
   * The driver wrote `data` at offset `at`. Throw `ProtocolError` to refuse it. The driver waits for
   * a promise. What this changes in the config space is not announced to the driver.
   */
  writeConfig?(at: number, data: Uint8Array): void | Promise<void>;
  /** The driver resets the device: back to the state after `open`; what it stores stays. */
  reset?(): void;
  /** The front-end is gone. The next one may serve another guest. */
  disconnected?(): void;
  /** RARP: broadcast an announcement of the guest's interface. `mac` has 6 bytes. */
  rarp?(mac: Uint8Array): void | Promise<void>;
  /** NET_MTU: the guest sends packets of up to `bytes` bytes. Throw `ProtocolError` to refuse it. */
  mtu?(bytes: number): void | Promise<void>;
  /**
   * GPU_SET_SOCKET: `socket` leads to the front-end's displays, in place of the one before, and is the
   * device's to close.
   */
  displaySocket?(socket: Fd): void;
  /** CRYPTO_SESSION: opens a session and returns its id, from 0 on. Throw to refuse it. */
  createCryptoSession?(request: CryptoSessionRequest): number | bigint | Promise<number | bigint>;
  /** CRYPTO_SESSION: throw `ProtocolError` when there is no such session. */
  closeCryptoSession?(id: bigint): void | Promise<void>;
  /** DEVICE_STATE: all that the device on the other side of a migration has to know. */
  save?(): Uint8Array | Promise<Uint8Array>;
  /** DEVICE_STATE: takes over what `save` of another process gave. Throw when it makes no sense. */
  load?(state: Uint8Array): void | Promise<void>;
  /** The operator sent SIGHUP: look again at files and settings. */
  reload?(): void;
  [Symbol.dispose]?(): void;
}

/** Bytes of a shared memory region, or of a file. */
export interface SharedRange {
  /** In the region, in bytes; a multiple of the page size. */
  readonly offset: number;
  /** In bytes; a multiple of the page size. */
  readonly length: number;
}

/** What a device may ask of the front-end (vhost-user: Back-end message types). */
export interface FrontEndServices {
  /**
   * SHARED_OBJECT: offers a buffer (a dma-buf) to other devices of the guest under a UUID, to this
   * front-end and those that follow. Keep `fd` open until you dispose of the result.
   */
  shareObject(uuid: string, fd: number): Disposable;
  /** SHARED_OBJECT: the buffer that another device offers, yours to close. Null without one. */
  lookupObject(uuid: string): Promise<Fd | null>;
  /**
   * SHMEM: maps `length` bytes of `fd` from `fdOffset` on into one of the device's `sharedMemory`
   * regions. Rejects when the front-end refuses. A reset of the device undoes it.
   */
  mapShared(region: number, mapping: SharedMapping): Promise<void>;
  /** SHMEM: removes a whole mapping. */
  unmapShared(region: number, range: SharedRange): Promise<void>;
  /**
   * HOST_NOTIFIER: lets the guest write its notifications of a queue into a page of `fd` itself, at
   * `offset`; null ends that.
   */
  setHostNotifier(queue: number, area: HostNotifierArea | null): Promise<void>;
}

export interface SharedMapping extends SharedRange {
  readonly fd: Fd;
  /** In bytes; 0 when absent. */
  readonly fdOffset?: number;
  readonly writable?: boolean;
}

export interface HostNotifierArea {
  readonly fd: Fd;
  /** In bytes; a multiple of the page size. */
  readonly offset: number;
  /** In bytes; QEMU wants one page. */
  readonly size: number;
}

/** What the framework lends to a device. */
export interface Host<C extends TObject = TObject> {
  readonly log: Log;
  /** Requests to the front-end; they reject while none is connected that can serve them. */
  readonly frontEnd: FrontEndServices;
  /** Changes fields of the config space and announces it to the front-end. */
  updateConfig(changes: Partial<Static<C>>): void;
  /**
   * Calls `onReady` while one of `events` is there, with those that are; EPOLLIN, which is something to
   * read, by default. `modify` changes them, to 0 for a pause. Never close `fd` before disposing this.
   */
  watch(fd: number, onReady: (events: number) => void, events?: number): Watch;
  /** Calls `task` every `milliseconds` until disposed. */
  every(milliseconds: number, task: () => void): Disposable;
  /** Calls `task` once after `milliseconds`, unless disposed before. */
  after(milliseconds: number, task: () => void): Disposable;
  /** Ends the program, whose last words are `reason`: what the device serves is gone for good. */
  fail(reason: Error): void;
}

export interface QueueSpec {
  readonly name: string;
  /** The largest ring the device accepts; virtio's own limit by default. */
  readonly maxSize?: number;
}

export interface Opened<C extends TObject, F extends string> {
  readonly config: Partial<Static<C>>;
  readonly device: Device;
  /** The device features to offer; all that are declared when absent. */
  readonly offer?: readonly F[];
}

/** Tells whether something works on this host. */
export interface Probe {
  /** Whether trying makes sense: asked first, and answered within a millisecond or so. */
  likely(): boolean;
  /** Tries, in a process of its own, which may crash and has 5 s. Throws when it does not work. */
  attempt(): void | Promise<void>;
}

/** A virtio device, declared once: flags, help, capabilities, descriptor and config bytes follow. */
export interface DeviceDefinition<
  O extends TObject = TObject,
  C extends TObject = TObject,
  F extends string = string,
> {
  /** The device's type in vhost-user.json, as `block`. */
  readonly type: string;
  /** The name in program names, `type` when absent: `blk` gives `vhost-user-blk`. */
  readonly name?: string;
  /** Virtio device id (virtio 1.3, 5). */
  readonly id: number;
  /** One line for `--help`. */
  readonly summary: string;
  /** Options by name; `blkFile` becomes `--blk-file`. Descriptions and defaults show in the help. */
  readonly options: O;
  /** Options to list as `features` of `--print-capabilities`, as `blk-file`. */
  readonly capabilities?: readonly string[];
  /** What tells, by its name, whether one of `capabilities` works on this host. The others always do. */
  readonly probes?: Readonly<Record<string, Probe>>;
  /** Device feature bits by name. */
  readonly features: Readonly<Record<F, number>>;
  readonly config: Layout<C>;
  readonly queues: readonly QueueSpec[] | ((options: Static<O>) => readonly QueueSpec[]);
  /** Fewest queues that a driver sets up; all of them by default. */
  readonly minQueues?: number;
  /**
   * Optional parts of the protocol that the device takes part in, as `DEVICE_STATE`. One is offered
   * when the opened device has its hooks: `save` and `load`.
   */
  readonly protocol?: readonly DeclaredProtocol[];
  /** Sizes in bytes of the device's shared memory regions by their ids; 0 for an id without one. */
  readonly sharedMemory?: readonly number[];
  /**
   * True when handlers complete chains from promises, timers or other JavaScript events, or what the
   * device opens needs them; a function where options decide that.
   */
  readonly async?: boolean | ((options: Static<O>) => boolean);
  /**
   * Offer IN_ORDER: drivers then see completions in the order of their chains, whichever order the
   * handler completes them in. For devices that complete nearly in order anyway.
   */
  readonly inOrder?: boolean;
  /** Opens what the device serves. Throw `Error` with one clear sentence when that fails. */
  open(options: Static<O>, host: Host<C>): Opened<C, NoInfer<F>> | Promise<Opened<C, NoInfer<F>>>;
  /**
   * Opens as many devices as there are `hosts`, which one program serves on a socket each and which may
   * have to do with one another, as the ports of a switch. Without it there is one.
   */
  openMany?(
    options: Static<O>,
    hosts: readonly Host<C>[],
  ): readonly Opened<C, NoInfer<F>>[] | Promise<readonly Opened<C, NoInfer<F>>[]>;
}

/** Any device, whatever its options and config space are. */
export type AnyDevice = Omit<
  DeviceDefinition<any, any, string>,
  "queues" | "async" | "open" | "openMany"
> & {
  readonly queues: readonly QueueSpec[] | ((options: any) => readonly QueueSpec[]);
  readonly async?: boolean | ((options: any) => boolean);
  open(options: any, host: any): Opened<any, any> | Promise<Opened<any, any>>;
  openMany?(
    options: any,
    hosts: any,
  ): readonly Opened<any, any>[] | Promise<readonly Opened<any, any>[]>;
};

/** Gives a device declaration its types. */
export function defineDevice<O extends TObject, C extends TObject, const F extends string = never>(
  definition: DeviceDefinition<O, C, F>,
): DeviceDefinition<O, C, F> {
  return definition;
}

/** The name a device's programs carry. */
export function deviceName(device: AnyDevice): string {
  return device.name ?? device.type;
}

/**
 * Completes a chain when a promise settles. A rejection is logged and completes with 0 bytes.
 *
 * @example
 * handle: (chain) => later(chain.hold(), fetchInto(chain), host.log)
 */
export function later(held: HeldChain, written: Promise<number>, log: Log): typeof PENDING {
  written.then(
    (count) => held.complete(count),
    (error) => {
      log.error(`A request failed: ${error instanceof Error ? error.message : error}`);
      held.complete(0);
    },
  );
  return PENDING;
}
