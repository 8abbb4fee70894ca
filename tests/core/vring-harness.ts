/** A vring with a driver's ring in guest memory, on a loop that runs beside the tests. */
import assert from "node:assert/strict";
import { afterEach, beforeEach } from "node:test";
import type { HeldChain } from "../../core/chain.ts";
import { type Device, PENDING } from "../../core/device.ts";
import { DirtyLog } from "../../core/dirty-log.ts";
import { ProtocolError } from "../../core/errors.ts";
import { mask, RingFeature } from "../../core/features.ts";
import { Log, type LogRecord } from "../../core/log.ts";
import type { Loop } from "../../core/loop.ts";
import { Vring, type VringContext } from "../../core/vring.ts";
import { bytes, createEventFd, type Fd, libc } from "../../ffi/mod.ts";
import { DriverRing } from "./driver.ts";
import { TestGuest, userAddress } from "./guest.ts";
import { until } from "./until.ts";
import { useLoop } from "./use-loop.ts";

/** Descriptors in the ring, and guest addresses of the ring and of what its chains point to. */
export const SIZE = 8;
export const RING = 0x1000;
export const DATA = 0x8000;

export const refused = (reason: RegExp) => (error: unknown) =>
  error instanceof ProtocolError && reason.test(error.message);

/** Takes a signal off an eventfd. False when there is none. */
export const signalled = (fd: Fd) => libc.read(fd.number, bytes(8), 8) === 8;

const one = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
export const kickWith = (fd: Fd) => assert.equal(libc.write(fd.number, one, 8), 8);

export class VringHarness {
  readonly guest = new TestGuest([
    { guestAddress: 0, size: 0x10000, at: 0 },
    { guestAddress: 0x10000, size: 0x10000, at: 0x10000 },
  ]);
  ring = new DriverRing(this.guest, { size: SIZE, at: RING });
  readonly records: LogRecord[] = [];
  /** What the device was told. */
  readonly events: string[] = [];
  readonly held: HeldChain[] = [];
  device: Device = {
    handle: (chain) => chain.writableBytes,
    started: (queue) => void this.events.push(`started ${queue.index}`),
    stopping: (queue) => void this.events.push(`stopping ${queue.index}`),
  };
  /** Notifications by message. */
  readonly notified: string[] = [];
  readonly context: VringContext;
  vring: Vring;
  /** The driver's copies of the descriptors. */
  readonly call = createEventFd();
  readonly err = createEventFd();

  constructor(loop: Loop) {
    const log = new Log((record) => this.records.push(record), "debug");
    const features = mask(RingFeature.VERSION_1, RingFeature.INDIRECT_DESC);
    const { device } = this;
    const { memory } = this.guest;
    const notify = (name: string, vring: number) => void this.notified.push(`${name} ${vring}`);
    const dirtyLog = new DirtyLog();
    const inflight = null;
    this.context = { loop, log, device, memory, dirtyLog, inflight, features, notify };
    this.vring = new Vring(3, { name: "test" }, this.context);
  }

  dispose(): void {
    this.vring.dispose();
    this.guest[Symbol.dispose]();
    this.call.close();
    this.err.close();
  }

  /** User addresses of a ring. */
  addresses({ at } = this.ring) {
    return {
      descriptor: userAddress(at.descriptor),
      available: userAddress(at.available),
      used: userAddress(at.used),
    };
  }

  setUp(): void {
    this.vring.setSize(SIZE);
    this.vring.setAddresses(this.addresses());
    this.vring.setCall(this.call.duplicate());
    this.vring.setErr(this.err.duplicate());
  }

  /** Starts the ring; returns the driver's end of the kick. */
  start(): Fd {
    const kick = createEventFd();
    this.setUp();
    this.vring.enable();
    this.vring.setKick(kick.duplicate());
    return kick;
  }

  offer(): number {
    return this.ring.offer([{ address: DATA, length: 16, writable: true }]);
  }

  /** Waits for completions that the driver has not taken. */
  used(count: number): Promise<void> {
    const shown = () => (this.ring.shownUsed - this.ring.usedIndex + 65536) % 65536;
    return until(() => shown() >= count, `${count} completions`);
  }

  /** Stops the ring. Answers its base. */
  stopped(): Promise<number> {
    return new Promise((resolve) => this.vring.stop(resolve));
  }

  /** Makes the device hold every chain, and waits until it holds one. */
  async holdOne(): Promise<HeldChain> {
    this.device.handle = (chain) => {
      this.held.push(chain.hold());
      return PENDING;
    };
    this.start().close();
    this.offer();
    this.vring.scheduleDrain();
    await until(() => this.held.length === 1);
    return this.held[0]!;
  }
}

/** A fresh harness for each test of a suite, on one loop. */
export function useVring(): { readonly current: VringHarness; readonly loop: Loop } {
  const suite = useLoop();
  let harness: VringHarness;
  beforeEach(() => {
    harness = new VringHarness(suite.current);
  });
  afterEach(() => harness.dispose());
  return {
    get current() {
      return harness;
    },
    get loop() {
      return suite.current;
    },
  };
}
