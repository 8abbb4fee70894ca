/**
 * One vring of a session: what the front-end set up, and the ring's life
 * (vhost-user: Starting and stopping rings).
 *
 * A ring starts when its kick arrives and everything else is known; it is then drained at once,
 * because chains may have been available before anybody was there to be kicked.
 */
import { acknowledge, EPOLLIN, type Fd } from "../ffi/mod.ts";
import { type Device, type QueueSpec, STOP } from "./device.ts";
import { GuestError, ProtocolError } from "./errors.ts";
import { has, RingFeature } from "./features.ts";
import { prepareKick } from "./kick.ts";
import type { Log } from "./log.ts";
import type { Loop, Watch } from "./loop.ts";
import { type GuestMemory, hex } from "./memory.ts";
import { Notifier } from "./notifier.ts";
import { MAX_QUEUE_SIZE } from "./protocol.ts";
import { SplitQueue, splitRingBytes } from "./split.ts";

/** Chains handled before other queues and sockets get their turn. */
const DRAIN_BUDGET = 512;
/** The same in milliseconds: a chain may cost anything from a microsecond to a slow disk's flush. */
const DRAIN_SLICE = 10;
/** Completions published together: enough to share a notification, few enough to overlap work. */
const PUBLISH_BATCH = 16;
/** How often a ring without a kick descriptor is looked at, in milliseconds. */
const POLL_INTERVAL = 1;
/** How long a device may take to complete what it holds when a ring stops, in milliseconds. */
const DRAIN_LIMIT = 10_000;

/** User addresses of a ring's parts. */
export interface RingAddresses {
  readonly descriptor: number;
  readonly available: number;
  readonly used: number;
}

/** What a vring needs of its session. */
export interface VringContext {
  readonly loop: Loop;
  readonly log: Log;
  readonly device: Device;
  readonly memory: GuestMemory;
  /** The feature bits the driver accepted. */
  readonly features: bigint;
}

export class Vring {
  readonly index: number;
  readonly spec: QueueSpec;
  readonly #context: VringContext;
  readonly #log: Log;
  readonly #call = new Notifier("call");
  readonly #err = new Notifier("err");
  #size = 0;
  #base = 0;
  #addresses: RingAddresses | null = null;
  #kicked = false;
  #kick: Fd | null = null;
  #kickWatch: Disposable | null = null;
  #enabled = false;
  /** The device knows the ring as ready and enabled. */
  #announced = false;
  #queue: SplitQueue | null = null;
  #broken = false;
  #suspended = false;
  #drainScheduled = false;
  #publishScheduled = false;
  /** The device's handler has the chain that `next` loaded. */
  #handling = false;
  #whenIdle: (() => void) | null = null;
  #idleTimer: Disposable | null = null;

  constructor(index: number, spec: QueueSpec, context: VringContext) {
    this.index = index;
    this.spec = spec;
    this.#context = context;
    this.#log = context.log.with({ queue: index });
  }

  get started(): boolean {
    return this.#queue !== null;
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  setSize(size: number): void {
    const limit = this.spec.maxSize ?? MAX_QUEUE_SIZE;
    this.#refuseWhileStarted("the size");
    if (size === 0 || size > limit || (size & (size - 1)) !== 0) {
      throw new ProtocolError(
        `Cannot use a ring of ${size} descriptors: it must be a power of 2 up to ${limit}`,
      );
    }
    this.#size = size;
    if (this.#kicked) this.#start();
  }

  setBase(base: number): void {
    this.#refuseWhileStarted("the base");
    if (base > 0xffff) throw new ProtocolError(`Cannot start a split ring at index ${base}`);
    this.#base = base;
  }

  setAddresses(addresses: RingAddresses): void {
    const { descriptor, available, used } = addresses;
    if (descriptor % 16 !== 0 || available % 2 !== 0 || used % 4 !== 0) {
      throw new ProtocolError(
        `Cannot use ring addresses ${hex(descriptor)}, ${hex(available)}, ${hex(used)}: ` +
          "they must be aligned to 16, 2 and 4 bytes",
      );
    }
    const old = this.#addresses;
    // A running ring gets its own addresses again when logging is switched on or off.
    const same =
      old !== null &&
      old.descriptor === descriptor &&
      old.available === available &&
      old.used === used;
    if (same) return;
    this.#refuseWhileStarted("the addresses");
    this.#addresses = addresses;
    if (this.#kicked) this.#start();
  }

  /** Starts the ring. Takes `fd`; null means that the ring is polled. */
  setKick(fd: Fd | null): void {
    if (fd !== null) prepareKick(fd);
    this.#dropKick();
    this.#kick = fd;
    this.#kicked = true;
    try {
      if (this.#queue === null) this.#start();
      else this.#watchKick();
    } catch (error) {
      // The caller keeps the descriptor.
      this.#kick = null;
      this.#kicked = false;
      throw error;
    }
    this.scheduleDrain();
  }

  /** Takes `fd`; null means that the driver polls the used ring. */
  setCall(fd: Fd | null): void {
    this.#call.replace(fd);
    // A completion may have been published between the old descriptor's end and now.
    if (this.#queue !== null) this.#call.send();
  }

  /** Takes `fd`, which learns of a broken ring. */
  setErr(fd: Fd | null): void {
    this.#err.replace(fd);
  }

  enable(enabled: boolean): void {
    this.#enabled = enabled;
    const queue = this.#queue;
    if (queue === null) return;
    if (enabled) this.#announce(queue);
    else this.#retract(queue);
  }

  /** Tells the device that it has the queue. */
  #announce(queue: SplitQueue): void {
    if (this.#announced || this.#suspended || this.#broken) return;
    this.#announced = true;
    this.#context.device.started?.(queue);
    this.scheduleDrain();
  }

  /** Tells the device, which was told of the queue, to let go of it. */
  #retract(queue: SplitQueue): void {
    if (!this.#announced) return;
    this.#announced = false;
    this.#context.device.stopping?.(queue);
  }

  /**
   * Stops the ring: nothing more is taken, and `done` gets the index to go on from once nothing is
   * in flight. Chains that the device still holds after `DRAIN_LIMIT` are given up.
   */
  stop(done: (base: number) => void): void {
    this.#kicked = false;
    this.#dropKick();
    this.suspend(() => {
      const queue = this.#queue;
      if (queue !== null) {
        this.#base = queue.base;
        queue.close();
        this.#queue = null;
      }
      this.#broken = false;
      this.#suspended = false;
      done(this.#base);
    });
  }

  /** Pauses a started ring; `done` is called when nothing is in flight and memory may change. */
  suspend(done: () => void): void {
    const queue = this.#queue;
    this.#suspended = true;
    if (queue === null) return done();
    this.#retract(queue);
    queue.publish();
    if (queue.inFlight === 0) return done();
    this.#whenIdle = done;
    this.#idleTimer?.[Symbol.dispose]();
    this.#idleTimer = this.#context.loop.after(DRAIN_LIMIT, () => {
      const count = queue.inFlight;
      this.#log.error(`The device did not complete ${count} requests in ${DRAIN_LIMIT} ms`);
      queue.close();
      this.#broken = true;
      this.#idle();
    });
  }

  /** Nothing is in flight any more, or it is given up. */
  #idle(): void {
    const done = this.#whenIdle;
    this.#whenIdle = null;
    this.#idleTimer?.[Symbol.dispose]();
    this.#idleTimer = null;
    done?.();
  }

  /** Goes on after `suspend`, on the memory table as it is now. */
  unsuspend(): void {
    this.#suspended = false;
    const queue = this.#queue;
    if (queue === null) return;
    this.#base = queue.base;
    queue.close();
    this.#queue = null;
    if (this.#broken) return;
    try {
      this.#start();
    } catch (error) {
      this.#broken = true;
      this.#log.error(`The ring has left guest memory: ${(error as Error).message}`);
      this.#err.send();
    }
  }

  /** Ends the ring with its session, at once. */
  dispose(): void {
    this.#dropKick();
    this.#queue?.close();
    this.#queue = null;
    this.#call.replace(null);
    this.#err.replace(null);
  }

  /** Drains the ring at the end of this round. */
  scheduleDrain(): void {
    if (this.#drainScheduled) return;
    this.#drainScheduled = true;
    this.#context.loop.defer(this.#runDrain);
  }

  readonly #runDrain = (): void => {
    this.#drainScheduled = false;
    this.#drain();
  };

  readonly #runPublish = (): void => {
    this.#publishScheduled = false;
    const queue = this.#queue;
    if (queue === null) return;
    queue.publish();
    if (queue.inFlight === 0) this.#idle();
  };

  #schedulePublish(): void {
    if (this.#publishScheduled) return;
    this.#publishScheduled = true;
    this.#context.loop.defer(this.#runPublish);
  }

  /**
   * Allows a change of what the ring was started with. A disabled ring is let go of: User-Mode Linux
   * disables its rings and sets them up anew without ever stopping them.
   */
  #refuseWhileStarted(what: string): void {
    if (this.#queue === null) return;
    if (this.#enabled) {
      throw new ProtocolError(`Cannot change ${what} of vring ${this.index} while it is started`);
    }
    this.#queue.close();
    this.#queue = null;
    this.#kicked = false;
    this.#dropKick();
  }

  /** Starts when size, addresses and memory are known; a ring whose addresses are wrong stays off. */
  #start(): void {
    if (this.#size === 0 || this.#addresses === null) return;
    const size = this.#size;
    const bytes = splitRingBytes(size);
    const { features, memory } = this.#context;
    const queue = new SplitQueue({
      index: this.index,
      name: this.spec.name,
      size,
      memory,
      descriptor: this.#locate(
        "descriptor table",
        this.#addresses.descriptor,
        bytes.descriptor,
        16,
      ),
      available: this.#locate("available ring", this.#addresses.available, bytes.available, 2),
      used: this.#locate("used ring", this.#addresses.used, bytes.used, 4),
      base: this.#base,
      indirect: has(features, RingFeature.INDIRECT_DESC),
      eventIdx: has(features, RingFeature.EVENT_IDX),
      call: () => this.#call.send(),
      requestPublish: () => this.#schedulePublish(),
      requestDrain: () => this.scheduleDrain(),
    });
    this.#watchKick();
    this.#queue = queue;
    this.#broken = false;
    this.#log.debug("The vring starts", { size, base: this.#base });
    if (this.#enabled) this.#announce(queue);
  }

  #locate(part: string, userAddress: number, length: number, alignment: number): number {
    const found = this.#context.memory.findUser(userAddress, length);
    if (found === null) {
      throw new ProtocolError(
        `Cannot start vring ${this.index}: its ${part} of ${length} bytes at user address ` +
          `${hex(userAddress)} is not in one memory region`,
      );
    }
    // The region's own offset in its file may be odd, and atomic accesses need aligned memory.
    if (found.host % alignment !== 0) {
      throw new ProtocolError(
        `Cannot start vring ${this.index}: its ${part} at user address ${hex(userAddress)} ` +
          `is not aligned to ${alignment} bytes in memory`,
      );
    }
    return found.host;
  }

  #watchKick(): void {
    if (this.#kickWatch !== null) return;
    const { loop } = this.#context;
    const kick = this.#kick;
    if (kick === null) {
      this.#kickWatch = loop.every(POLL_INTERVAL, () => this.#drain());
      return;
    }
    const watch: Watch = loop.watch(kick.number, EPOLLIN, () => {
      // A pipe whose other end is gone is readable for ever.
      if (!acknowledge(kick.number)) watch.modify(0);
      this.#drain();
    });
    this.#kickWatch = watch;
  }

  #dropKick(): void {
    this.#kickWatch?.[Symbol.dispose]();
    this.#kickWatch = null;
    this.#kick?.close();
    this.#kick = null;
  }

  #drain(): void {
    const queue = this.#queue;
    if (queue === null || !this.#enabled || this.#suspended || this.#broken) return;
    queue.draining = true;
    try {
      if (this.#drainQueue(queue)) this.scheduleDrain();
    } catch (error) {
      this.#break(error);
    }
    queue.draining = false;
  }

  /** Handles available chains. Returns true when the budget ended before the chains did. */
  #drainQueue(queue: SplitQueue): boolean {
    const { device } = this.#context;
    const chain = queue.chain;
    let budget = DRAIN_BUDGET;
    let staged = 0;
    let more = true;
    // The clock is read after the first chain, and then as seldom as that one's cost allows.
    const started = performance.now();
    let unchecked = 1;
    queue.suppressKicks();
    while (more) {
      if (!queue.next()) {
        device.flush?.(queue);
        queue.publish();
        staged = 0;
        more = queue.requestKick();
        if (more) queue.suppressKicks();
        continue;
      }
      this.#handling = true;
      const outcome = device.handle === undefined ? STOP : device.handle(chain, queue);
      // Handlers written in JavaScript may answer nothing, or a promise.
      if (!(outcome >= STOP)) throw new TypeError(`A handler answered ${outcome}`);
      this.#handling = false;
      if (outcome >= 0) {
        queue.complete(chain.head, outcome);
        if (++staged === PUBLISH_BATCH) {
          queue.publish();
          staged = 0;
        }
      } else if (outcome === STOP) {
        queue.putBack();
        more = false;
      }
      if (--unchecked === 0) {
        const spent = performance.now() - started;
        const average = spent / (DRAIN_BUDGET - budget + 1);
        unchecked = average * PUBLISH_BATCH < DRAIN_SLICE ? PUBLISH_BATCH : 1;
        if (spent > DRAIN_SLICE) budget = 1;
      }
      if (more && --budget === 0) {
        device.flush?.(queue);
        queue.publish();
        return true;
      }
    }
    device.flush?.(queue);
    queue.publish();
    return false;
  }

  /** A wrong driver or a throwing device ends this queue until it is set up again. */
  #break(error: unknown): void {
    this.#broken = true;
    if (this.#handling) this.#queue?.putBack();
    this.#handling = false;
    this.#queue?.publish();
    if (error instanceof GuestError) {
      this.#log.error(`The driver broke the queue: ${error.message}`, { rule: error.rule });
    } else {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#log.error(`The device failed, its queue stops: ${text}`);
    }
    this.#err.send();
  }
}
