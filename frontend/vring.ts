/** One vring as a front-end sets it up: a driver's ring, its notifications, and the messages for both. */
import { U64, VringAddr, VringState } from "../core/payloads.ts";
import { frontEndMessages, type MessageRow, VRING_LOG, VRING_NO_FD } from "../core/protocol.ts";
import type { Fd } from "../ffi/mod.ts";
import type { Connection, SideChannel } from "./connection.ts";
import { DriverRing } from "./driver-ring.ts";
import { BackEndError } from "./errors.ts";
import type { GuestMemory } from "./guest-memory.ts";
import type { Iommu } from "./iommu.ts";
import { Notifier } from "./notifier.ts";
import { PackedRing } from "./packed-ring.ts";
import { kickInBand } from "./parts.ts";
import type { RingOptions } from "./ring-options.ts";
import { DEFAULT_TIMEOUT, PollSet } from "./wait.ts";

export interface VringOptions extends RingOptions {
  /** A packed ring; as negotiated when `Frontend.addVring` makes it. */
  readonly packed?: boolean;
  /** Makes kick, call and err; eventfds by default. */
  readonly notifier?: (role: "kick" | "call" | "err") => Notifier;
  /** False: no kick descriptor is passed, the back-end polls. True by default. */
  readonly kicks?: boolean;
  /** False: no call descriptor is passed, the driver polls. True by default. */
  readonly calls?: boolean;
  /** Asked by the back-end while the driver waits for it. */
  readonly iommu?: Iommu;
  /**
   * Kick by VRING_KICK, and pass no descriptors to kick or call with. Calls then come as requests
   * of the back-end, and the driver looks for completions itself.
   */
  readonly inBand?: boolean;
}

const pair = new PollSet(2);

export class Vring implements Disposable {
  readonly index: number;
  readonly ring: DriverRing | PackedRing;
  kick: Notifier;
  call: Notifier;
  readonly err: Notifier;
  started = false;
  /** What else the back-end may ask while the driver waits for it. */
  side: SideChannel | null = null;
  /** Kicks sent so far. */
  kicks = 0;
  /** False when the driver has to look for completions itself. */
  readonly notifies: boolean;
  /** Numbers of the ring and of the device's headers are big-endian. */
  readonly bigEndian: boolean;
  readonly #memory: GuestMemory;
  readonly #iommu: Iommu | null;
  readonly #passKick: boolean;
  readonly #inBand: boolean;
  #connection: Connection | null = null;

  constructor(index: number, memory: GuestMemory, options: VringOptions) {
    const { notifier = () => Notifier.eventFd(), kicks = true, inBand = false } = options;
    const { calls = !inBand } = options;
    this.index = index;
    this.ring = options.packed ? new PackedRing(memory, options) : new DriverRing(memory, options);
    this.kick = notifier("kick");
    this.call = notifier("call");
    this.err = notifier("err");
    this.notifies = calls;
    this.bigEndian = options.bigEndian === true;
    this.#memory = memory;
    this.#iommu = options.iommu ?? null;
    this.#passKick = kicks;
    this.#inBand = inBand;
  }

  /** Shows the device what was added to the ring, and kicks it if it wants that. */
  publish(): void {
    if (!this.ring.publish()) return;
    this.kicks++;
    if (!this.#inBand) this.kick.signal();
    else kickInBand(this.#connection!, this.index);
  }

  /**
   * Waits until a completion can be taken. False when none comes in time. Throws when one came
   * without the notification that was asked for.
   */
  wait(milliseconds: number = DEFAULT_TIMEOUT): boolean {
    const { ring } = this;
    if (!this.notifies) return this.#poll(milliseconds);
    const end = performance.now() + milliseconds;
    // A notification may be left of completions that were taken without it.
    while (!ring.enableCalls()) {
      if (this.#take(Math.max(0, end - performance.now()))) continue;
      if (!ring.ready) return false;
      const message = `Vring ${this.index} has completions without a call`;
      throw new BackEndError("silent", `${message} after ${milliseconds} ms`);
    }
    ring.disableCalls();
    return true;
  }

  /** Waits for a call, and serves the back-end meanwhile. False when nothing happens in time. */
  #take(milliseconds: number): boolean {
    const side = this.#iommu ?? this.side;
    const fd = side?.fd;
    if (!side || !fd || fd.closed) return this.call.take(milliseconds);
    pair.clear();
    pair.add(this.call.reader.number);
    pair.add(fd.number);
    if (pair.wait(milliseconds) === 0) return false;
    const called = pair.ready(0);
    if (pair.ready(1)) side.serve();
    if (called) this.call.take();
    return true;
  }

  #poll(milliseconds: number): boolean {
    const { ring } = this;
    const end = performance.now() + milliseconds;
    while (!ring.ready) {
      if (performance.now() > end) return false;
      this.#iommu?.serve();
    }
    return true;
  }

  /** Tells whether the back-end says that the ring is broken. */
  broken(milliseconds = 0): boolean {
    return this.err.take(milliseconds);
  }

  setSize(connection: Connection): void {
    this.#sendState(connection, frontEndMessages.SET_VRING_NUM, this.ring.size);
  }

  /** SET_VRING_ENDIAN, for rings that are not in the byte order of virtio 1.0. */
  setEndian(connection: Connection): void {
    if (this.bigEndian) this.#sendState(connection, frontEndMessages.SET_VRING_ENDIAN, 1);
  }

  setBase(connection: Connection, base: number): void {
    this.#sendState(connection, frontEndMessages.SET_VRING_BASE, base);
  }

  /** `logged`: the back-end marks what it writes to the used part. */
  setAddresses(connection: Connection, logged = false): void {
    const { descriptor, available, used } = this.ring.place;
    const memory = this.#memory;
    const user = (address: number) =>
      BigInt(memory.behindIommu ? address + memory.ioOffset : memory.userAddress(address));
    const payload = VringAddr.encode({
      index: this.index,
      flags: logged ? VRING_LOG : 0,
      descriptor: user(descriptor),
      available: user(available),
      used: user(used),
      // As QEMU does, always.
      log: BigInt(used),
    });
    connection.command(frontEndMessages.SET_VRING_ADDR, payload);
  }

  setKick(connection: Connection): void {
    this.started = true;
    this.#connection = connection;
    if (this.#inBand) return kickInBand(connection, this.index);
    this.#sendFd(
      connection,
      frontEndMessages.SET_VRING_KICK,
      this.#passKick ? this.kick.reader : null,
    );
  }

  setCall(connection: Connection): void {
    if (this.#inBand) return;
    this.#sendFd(
      connection,
      frontEndMessages.SET_VRING_CALL,
      this.notifies ? this.call.writer : null,
    );
  }

  setErr(connection: Connection): void {
    if (this.#inBand) return;
    this.#sendFd(connection, frontEndMessages.SET_VRING_ERR, this.err.writer);
  }

  enable(connection: Connection, enabled: boolean): void {
    this.#sendState(connection, frontEndMessages.SET_VRING_ENABLE, enabled ? 1 : 0);
  }

  /** Passes a new kick descriptor; the last one is closed. */
  replaceKick(connection: Connection, kick: Notifier = Notifier.eventFd()): void {
    const old = this.kick;
    this.kick = kick;
    this.setKick(connection);
    old[Symbol.dispose]();
  }

  /**
   * Passes a new call descriptor; the last one is closed. A notification may have gone to that, so
   * completions should be looked for afterwards.
   */
  replaceCall(connection: Connection, call: Notifier = Notifier.eventFd()): void {
    const old = this.call;
    this.call = call;
    this.setCall(connection);
    old[Symbol.dispose]();
  }

  /** Stops the ring, by GET_VRING_BASE or its variant. Returns the base to go on from. */
  stop(connection: Connection, row: MessageRow = frontEndMessages.GET_VRING_BASE): number {
    const payload = VringState.encode({ index: this.index, num: 0 });
    const { index, num } = VringState.decode(connection.request(row, payload).payload);
    if (index !== this.index) {
      const message = `${row.name} of vring ${this.index} is answered for ${index}`;
      throw new BackEndError("malformed", message);
    }
    this.started = false;
    return num;
  }

  [Symbol.dispose](): void {
    for (const notifier of [this.kick, this.call, this.err]) notifier[Symbol.dispose]();
  }

  #sendState(connection: Connection, row: MessageRow, num: number): void {
    connection.command(row, VringState.encode({ index: this.index, num }));
  }

  #sendFd(connection: Connection, row: MessageRow, fd: Fd | null): void {
    const value = BigInt(this.index | (fd === null ? VRING_NO_FD : 0));
    connection.command(row, U64.encode({ value }), fd === null ? [] : [fd]);
  }
}
