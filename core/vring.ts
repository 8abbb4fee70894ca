/**
 * One vring of a session: what the front-end set up, and the ring's life
 * (vhost-user: Starting and stopping rings).
 *
 * A ring runs while it is kicked (SET_VRING_KICK), enabled, and completely known, in whatever order
 * that came about. It is drained as soon as it runs: chains may have been made available before
 * anybody was there to be kicked. Whatever ends that state lets requests in flight end first.
 */
import type { Fd } from "../ffi/mod.ts";
import type { QueueSpec } from "./device.ts";
import { Drain } from "./drain.ts";
import { GuestError, logBreak, ProtocolError } from "./errors.ts";
import { AccessFailure, type Piece, TranslationMiss } from "./iotlb.ts";
import { checkKick, watchKick } from "./kick.ts";
import type { Log } from "./log.ts";
import { Notifier } from "./notifier.ts";
import type { Queue, QueueOptions } from "./queue.ts";
import {
  type QueueEvents,
  type RingAddresses,
  RingSetup,
  type VringContext,
} from "./ring-setup.ts";
import type { TranslationWait } from "./translation.ts";

export type { RingAddresses, VringContext };

/** How often a ring without a kick descriptor is looked at, in milliseconds. */
const POLL_INTERVAL = 1;
/** How long a device may take to complete what it holds when a ring stops, in milliseconds. */
const DRAIN_LIMIT = 10_000;

export class Vring {
  readonly index: number;
  readonly spec: QueueSpec;
  readonly #context: VringContext;
  readonly #log: Log;
  readonly #call: Notifier;
  readonly #err: Notifier;
  readonly #setup: RingSetup;
  readonly #events: QueueEvents;
  #kick: Fd | null = null;
  #kicked = false;
  #kickWatch: Disposable | null = null;
  /** SET_VRING_KICK had no descriptor. */
  #polled = false;
  #enabled = false;
  #suspended = false;
  /** The driver or the device was at fault: nothing is taken until the ring is set up again. */
  #broken = false;
  #queue: Queue | null = null;
  #drain: Drain | null = null;
  #startScheduled = false;
  #drainScheduled = false;
  #publishScheduled = false;
  #whenIdle: (() => void)[] = [];
  #idleTimer: Disposable | null = null;
  readonly #wait: TranslationWait | null;

  constructor(index: number, spec: QueueSpec, context: VringContext) {
    this.index = index;
    this.spec = spec;
    this.#context = context;
    this.#log = context.log.with({ queue: index });
    this.#setup = new RingSetup(index, spec, context);
    this.#events = {
      call: () => this.#call.send(),
      broken: (error) => this.#break(error),
      requestPublish: () => this.#schedulePublish(),
      requestDrain: () => this.scheduleDrain(),
    };
    this.#call = new Notifier("call", () => context.notify("VRING_CALL", index));
    this.#err = new Notifier("err", () => context.notify("VRING_ERR", index));
    const fail = (reason: string) => this.#break(new GuestError(reason, "virtio 1.3 6.1"));
    this.#wait = context.translation?.wait(() => this.#translated(), fail) ?? null;
  }

  /** True while chains are taken. */
  get running(): boolean {
    return this.#queue !== null;
  }

  /** True before the first kick, and again once the front-end has stopped the ring. */
  get stopped(): boolean {
    return !this.#kicked && this.#queue === null;
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  setSize(size: number): void {
    this.#refuseWhileRunning("the size");
    this.#setup.setSize(size);
    this.#tryStart();
  }

  /** What SET_VRING_ENDIAN said. Means nothing once VERSION_1 is negotiated. */
  get bigEndian(): boolean {
    return this.#setup.bigEndian;
  }

  setBigEndian(bigEndian: boolean): void {
    this.#refuseWhileRunning("the byte order");
    this.#setup.bigEndian = bigEndian;
  }

  setBase(base: number): void {
    this.#refuseWhileRunning("the base");
    this.#setup.setBase(base);
  }

  /** Calls `done` when they are in force: a running ring completes what it has in flight first. */
  setAddresses(addresses: RingAddresses, done: () => void = () => {}): void {
    const setup = this.#setup;
    setup.checkAddresses(addresses);
    // A running ring gets its own addresses again when logging is switched on or off.
    if (!setup.hasAddresses(addresses)) this.#refuseWhileRunning("the addresses");
    if (this.#queue === null || (addresses.log ?? null) === (setup.addresses?.log ?? null)) {
      setup.setAddresses(addresses);
      this.#tryStart();
      return done();
    }
    this.suspend(() => {
      setup.setAddresses(addresses);
      this.unsuspend();
      done();
    });
  }

  /** Kicks the ring off. Takes `fd` unless it throws; null means that the ring is polled. */
  setKick(fd: Fd | null): void {
    if (fd !== null) checkKick(fd);
    // While running, the new descriptor must prove itself before the old one goes.
    const watch = this.#queue === null ? null : this.#watch(fd, fd === null);
    this.#dropKick();
    this.#kick = fd;
    this.#kicked = true;
    this.#polled = fd === null;
    this.#kickWatch = watch;
    try {
      this.#tryStart();
    } catch (error) {
      this.#kick = null;
      this.#kicked = false;
      throw error;
    }
    this.scheduleDrain();
  }

  /** VRING_KICK: starts the ring like a descriptor does, and drains it before the driver gets its answer. */
  kickInBand(): void {
    if (!this.#kicked) {
      this.#kicked = true;
      try {
        this.#tryStart();
      } catch (error) {
        this.#kicked = false;
        throw error;
      }
    }
    this.#drainNow();
  }

  /** Takes `fd` unless it throws; null means that the driver polls the used ring. */
  setCall(fd: Fd | null): void {
    this.#call.replace(fd);
    // A completion may have been published between the old descriptor's end and now.
    if (this.#queue !== null) this.#call.send();
  }

  /** Takes `fd`, which learns of a broken ring, unless it throws. */
  setErr(fd: Fd | null): void {
    this.#err.replace(fd);
  }

  /** Lets the ring run. Throws `ProtocolError` when it cannot. */
  enable(): void {
    this.#enabled = true;
    this.#tryStart();
  }

  /** Pauses the ring until it is enabled again. Calls `done` when nothing is in flight. */
  disable(done: () => void): void {
    this.#enabled = false;
    this.#halt(done);
  }

  /** Stops the ring. `done` gets the index to go on from when nothing is in flight. */
  stop(done: (base: number) => void): void {
    this.#kicked = false;
    this.#dropKick();
    this.#halt(() => {
      this.#broken = false;
      this.#suspended = false;
      done(this.#setup.base);
    });
  }

  /**
   * Stops the ring at once. Requests in flight are given up here: they stay in the in-flight region.
   * Returns where to go on.
   */
  stopAtOnce(): number {
    this.#wait?.end();
    this.#kicked = false;
    this.#dropKick();
    const queue = this.#queue;
    if (queue !== null && !queue.paused) {
      queue.paused = true;
      this.#tellDevice("stopping");
      this.#tellDevice("abandoning");
      queue.publish();
      // Whoever still has them may write to their buffers.
      if (queue.inFlight > 0) this.#context.memory.haunt();
    }
    this.#idle();
    this.#broken = false;
    this.#suspended = false;
    return this.#setup.base;
  }

  /** Pauses the ring. `done` is called when nothing is in flight and memory may change. */
  suspend(done: () => void): void {
    this.#suspended = true;
    this.#halt(done);
  }

  /**
   * Goes on after `suspend`, on the memory table as it is now. Looks for chains at once: firmware leaves rings
   * behind, whose memory may hold anything when this has been answered.
   */
  unsuspend(): void {
    this.#suspended = false;
    this.retryStart();
    if (!this.#drainScheduled) return;
    this.#drainScheduled = false;
    this.#drainNow();
    this.#context.loop.unpoll(this);
    this.rest();
  }

  /**
   * Tells whether the ring itself lies at addresses from `start` up to `end`, or a chain in flight uses
   * any of `pieces`, which are null when they are too many to tell.
   */
  uses(start: number, end: number, pieces: readonly Piece[] | null): boolean {
    if (this.#queue === null) return false;
    return this.#setup.overlaps(start, end) || this.#queue.uses(pieces);
  }

  /** Starts the ring if memory that was missing has come. Failing is only logged. */
  retryStart(deferred = false): void {
    try {
      this.#tryStart(deferred);
    } catch (error) {
      this.#log.error("The ring cannot go on", { reason: (error as Error).message });
      this.#err.send();
    }
  }

  /** Ends the ring with its session, at once. */
  dispose(): void {
    this.#wait?.end();
    this.#dropKick();
    this.#endQueue();
    this.#idle();
    this.#call.replace(null);
    this.#err.replace(null);
  }

  #refuseWhileRunning(what: string): void {
    if (this.#queue !== null) {
      throw new ProtocolError(`Cannot change ${what} of vring ${this.index} while it is running`);
    }
  }

  /** Starts the ring if everything is there. Throws `ProtocolError` when its addresses are wrong. */
  #tryStart(deferred = false): void {
    const ready = this.#kicked && this.#enabled && !this.#suspended && !this.#broken;
    if (!ready || this.#queue !== null || !this.#setup.complete) return;
    const options = this.#tryPrepare();
    if (options === null) return;
    // The queue reads its ring at once. While pages have yet to come, the answer goes first.
    if (this.#context.memory.source !== null && !deferred) return this.#startLater();
    const queue = this.#setup.make(options);
    this.#kickWatch ??= this.#watch(this.#kick, this.#polled);
    this.#queue = queue;
    this.#drain = new Drain(queue, this.#context.device, this.#watched);
    this.#log.debug("The vring starts", { size: queue.size, base: queue.base });
    if (queue.replays > 0) {
      this.#log.info("Requests that were in flight are submitted again", { count: queue.replays });
    }
    // The driver may have missed the last call of a back-end that was killed.
    this.#call.send();
    this.#tellDevice("started");
    this.scheduleDrain();
  }

  /** Starts the ring at the end of this round. */
  #startLater(): void {
    if (this.#startScheduled) return;
    this.#startScheduled = true;
    this.#context.loop.defer(() => {
      this.#startScheduled = false;
      this.retryStart(true);
    });
  }

  /** Null when the ring has to wait until its own addresses are known. */
  #tryPrepare(): QueueOptions | null {
    this.#wait?.end();
    try {
      return this.#setup.prepare(this.#events);
    } catch (error) {
      if (!(error instanceof TranslationMiss)) throw error;
      this.#log.debug("The vring waits for the translation of its addresses");
      this.#wait!.begin(error);
      return null;
    }
  }

  #translated(): void {
    if (this.#queue === null) return this.retryStart();
    this.#queue.waiting = false;
    this.scheduleDrain();
  }

  #watch(kick: Fd | null, polled: boolean): Disposable | null {
    const { loop } = this.#context;
    if (kick !== null) return watchKick(kick, loop, this.#drainNow);
    return polled ? loop.every(POLL_INTERVAL, this.#drainNow) : null;
  }

  #unwatchKick(): void {
    this.#kickWatch?.[Symbol.dispose]();
    this.#kickWatch = null;
  }

  #dropKick(): void {
    this.#unwatchKick();
    this.#kick?.close();
    this.#kick = null;
    this.#polled = false;
  }

  /** Takes no more chains; `done` is called when nothing is in flight, and there is no queue then. */
  #halt(done: () => void): void {
    this.#wait?.end();
    const queue = this.#queue;
    if (queue === null) return done();
    this.#whenIdle.push(done);
    // Watched anew, an old kick would be seen again.
    if (!this.#suspended) this.#unwatchKick();
    if (!queue.paused) {
      this.#submitReplays(queue);
      queue.paused = true;
      this.#tellDevice("stopping");
      queue.publish();
    }
    if (queue.inFlight === 0) return this.#idle();
    this.#idleTimer ??= this.#context.loop.after(DRAIN_LIMIT, () => {
      this.#log.error(`The device did not complete its requests in ${DRAIN_LIMIT} ms`, {
        requests: queue.inFlight,
      });
      this.#context.memory.haunt();
      this.#broken = true;
      this.#idle();
    });
  }

  /** What an earlier back-end had in flight is in flight still, and ends with the rest. */
  #submitReplays(queue: Queue): void {
    try {
      let more = true;
      while (more && queue.replays > 0 && !this.#broken) more = this.#drain!.run();
    } catch (error) {
      this.#break(error);
    }
  }

  /** Nothing is in flight any more, or it is given up. */
  #idle(): void {
    this.#endQueue();
    for (const done of this.#whenIdle.splice(0)) done();
  }

  #endQueue(): void {
    this.#idleTimer?.[Symbol.dispose]();
    this.#idleTimer = null;
    const queue = this.#queue;
    if (queue === null) return;
    this.#context.loop.unpoll(this);
    queue.close();
    this.#setup.ended(queue);
    this.#queue = null;
    this.#drain = null;
  }

  /** Drains the ring at the end of this round. */
  scheduleDrain(): void {
    if (this.#drainScheduled) return;
    this.#drainScheduled = true;
    this.#context.loop.defer(this.#runDrain);
  }

  readonly #runDrain = (): void => {
    if (!this.#drainScheduled) return;
    this.#drainScheduled = false;
    this.#drainNow();
  };

  readonly #drainNow = (): void => {
    if (this.#drain === null || this.#broken || this.#queue!.paused || this.#queue!.waiting) return;
    try {
      if (this.#drain.run()) this.scheduleDrain();
    } catch (error) {
      this.#break(error);
    }
  };

  readonly #watched = (): boolean => this.#context.loop.poll(this);

  /** `poll` and `rest` are for the loop. */
  poll(): boolean {
    const queue = this.#queue;
    if (queue === null || this.#broken || queue.paused || queue.waiting) {
      this.#context.loop.unpoll(this);
      return false;
    }
    try {
      if (!this.#drain!.look()) return false;
    } catch (error) {
      this.#break(error);
      return false;
    }
    this.#drainNow();
    if (!this.#drain?.stopped) return true;
    this.#context.loop.unpoll(this);
    return false;
  }

  rest(): void {
    const queue = this.#queue;
    if (queue === null || this.#broken || queue.paused) return;
    if (this.#drain!.rest()) this.#drainNow();
  }

  #schedulePublish(): void {
    if (this.#publishScheduled) return;
    this.#publishScheduled = true;
    this.#context.loop.defer(this.#runPublish);
  }

  readonly #runPublish = (): void => {
    this.#publishScheduled = false;
    const queue = this.#queue;
    if (queue === null) return;
    queue.publish();
    if (queue.paused && queue.inFlight === 0) this.#idle();
  };

  /** Calls a hook of the device. One that throws breaks this queue and nothing else. */
  #tellDevice(hook: "started" | "stopping" | "abandoning"): void {
    try {
      this.#context.device[hook]?.(this.#queue!);
    } catch (error) {
      this.#break(error);
    }
  }

  /**
   * A wrong driver or a throwing device ends this queue until it is set up again. What the front-end
   * has not translated yet is waited for.
   */
  #break(error: unknown): void {
    if (this.#broken) return;
    if (error instanceof TranslationMiss && this.#wait !== null && this.#queue !== null) {
      this.#queue.waiting = true;
      return this.#wait.begin(error);
    }
    this.#broken = true;
    if (error instanceof AccessFailure) this.#context.translation?.report(error);
    logBreak(this.#log, error);
    this.#err.send();
  }
}
