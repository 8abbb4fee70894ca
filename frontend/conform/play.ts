/** What a check works with: connections, guests and verdicts. Everything is released at its end. */
import { has, mask, RingFeature, VhostFeature } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import type { Connection } from "../connection.ts";
import { Frontend, type FrontendOptions } from "../frontend.ts";
import { GuestMemory, type MemoryOptions } from "../guest-memory.ts";
import { protocolFeatures, ringFeatures } from "../negotiation.ts";
import { PACKED_BASE } from "../packed-position.ts";
import type { Vring } from "../vring.ts";
import { sleep } from "../wait.ts";
import { fail, notOffered, skip } from "./check.ts";
import type { DeviceKind, Exercise } from "./exercises.ts";
import { Lane, type LaneOptions } from "./lane.ts";
import type { Specs } from "./specs.ts";
import type { Target } from "./target.ts";
import { askU64, M, u64 } from "./wire.ts";

/** What the back-end offered to the first connection. */
export interface Offer {
  readonly features: bigint;
  readonly protocol: bigint;
  /** GET_QUEUE_NUM; null when the back-end does not say. */
  readonly queues: number | null;
  /** GET_BACKEND_SPECS of a draft; null when it is not served. */
  readonly specs: Specs | null;
}

export interface GuestOptions extends FrontendOptions {
  readonly memory?: GuestMemory | MemoryOptions;
}

const names = <T extends Record<string, number>>(table: T, bit: number): string =>
  Object.entries(table).find(([, value]) => value === bit)?.[0] ?? `bit ${bit}`;

/** How long silence is listened to before it counts, in milliseconds. */
const QUIET = 60;

export class Play implements Disposable {
  readonly target: Target;
  readonly offer: Offer;
  readonly device: DeviceKind | null;
  readonly #exercise: Exercise | null;
  readonly #open: Disposable[] = [];

  constructor(
    target: Target,
    offer: Offer,
    device: DeviceKind | null,
    exercise: (() => Exercise) | null,
  ) {
    this.target = target;
    this.offer = offer;
    this.device = device;
    this.#exercise = exercise?.() ?? null;
  }

  get timeout(): number {
    return this.target.timeout;
  }

  /** How to use the device. Skips the check when nobody said what it is. */
  get exercise(): Exercise {
    return this.#exercise ?? skip("--device, to know what a request looks like");
  }

  /** Releases `resource` at the end of the check. */
  keep<T extends Disposable>(resource: T): T {
    this.#open.push(resource);
    return resource;
  }

  /** Ends the check as n/a unless all these protocol features are offered. */
  needsProtocol(...features: readonly number[]): void {
    for (const feature of features) {
      if (!has(this.offer.protocol, feature)) {
        notOffered(`protocol feature ${names(ProtocolFeature, feature)}`);
      }
    }
  }

  /** Ends the check as n/a unless all these virtio features are offered. */
  needsFeature(...features: readonly number[]): void {
    for (const feature of features) {
      if (!has(this.offer.features, feature)) {
        notOffered(`feature ${names({ ...RingFeature, ...VhostFeature }, feature)}`);
      }
    }
  }

  /** Skips the check unless the program was started here. */
  needsProcess(): void {
    if (!this.target.owned) skip("--exec, to look at the process");
  }

  /** Ends the check as n/a when the program serves one connection only. */
  needsReconnect(): void {
    if (this.target.oneShot) notOffered("a second connection to the same process");
  }

  /** A connection on which nothing was said yet. */
  connect(): Connection {
    return this.keep(this.target.connect());
  }

  /** A connection with protocol features negotiated, those that a front-end here knows. */
  greet(wanted: bigint = protocolFeatures): Connection {
    const connection = this.connect();
    const features = askU64(connection, M.GET_FEATURES);
    if (!has(features, VhostFeature.PROTOCOL_FEATURES)) return connection;
    const offered = askU64(connection, M.GET_PROTOCOL_FEATURES);
    const value = offered & wanted;
    connection.send(M.SET_PROTOCOL_FEATURES, u64(value));
    connection.acknowledged = has(value, ProtocolFeature.REPLY_ACK);
    connection.command(M.SET_OWNER);
    return connection;
  }

  /** A front-end after the handshake; features and memory are not sent yet. */
  frontend(options: GuestOptions = {}): Frontend {
    const connection = this.target.connect();
    const features = options.features ?? this.wantedFeatures();
    const settings = { memory: { size: 8 * 2 ** 20 }, ...options, features };
    return this.keep(new Frontend(connection, { timeout: this.timeout, ...settings }));
  }

  /** A front-end that has sent features and memory. */
  guest(options: GuestOptions = {}): Frontend {
    const frontend = this.frontend(options);
    frontend.acceptFeatures();
    frontend.shareMemory();
    return frontend;
  }

  /** A guest with a lane whose vrings are made and not set up. */
  parked(options: GuestOptions & LaneOptions = {}): Lane {
    // Before anything is sent: without a device there is nothing to do.
    const { exercise } = this;
    return new Lane(this.guest(options), exercise, this.timeout, options);
  }

  /** Further vrings of a guest, in place of those it had. */
  lane(frontend: Frontend, options: LaneOptions = {}): Lane {
    return new Lane(frontend, this.exercise, this.timeout, options);
  }

  /** A lane on another vring of a guest whose rings run, started. */
  further(frontend: Frontend, exercise: Exercise): Lane {
    const lane = new Lane(frontend, exercise, this.timeout);
    frontend.startVrings([lane.vring], [0]);
    return lane;
  }

  /** A guest whose rings run. */
  running(options: GuestOptions & LaneOptions = {}): Lane {
    const lane = this.parked(options);
    lane.start();
    return lane;
  }

  /**
   * Drops the connection of a lane without a word and makes a new one, with features and memory as
   * before; the rings' indices are where to go on. `start` sets the rings up, `prepare` is called
   * before that.
   */
  reconnect(lane: Lane, prepare: (frontend: Frontend) => void = () => {}): void {
    this.#reconnect(lane, prepare, ({ ring }) => ring.rewind());
  }

  /**
   * The same with rings left as they are, for a back-end that `prepare` tells what is in flight. Of packed
   * rings it is told no place to go on from, as QEMU does not know it then.
   */
  goOn(lane: Lane, prepare: (frontend: Frontend) => void): void {
    this.#reconnect(lane, prepare, ({ ring }) => (ring.packed ? PACKED_BASE : ring.shownUsedIndex));
  }

  #reconnect(
    lane: Lane,
    prepare: (frontend: Frontend) => void,
    baseOf: (vring: Vring) => number,
  ): void {
    const { frontend } = lane;
    const { memory, agreed } = frontend;
    frontend.disconnect();
    const { features, protocol } = agreed;
    const next = this.frontend({ memory, features, protocol });
    lane.frontend = next;
    next.acceptFeatures();
    next.shareMemory();
    prepare(next);
    // What is in flight may be completed, and called for, as soon as a ring is kicked.
    for (const vring of lane.vrings) vring.setCall(next.connection);
    const bases = lane.vrings.map(baseOf);
    next.startVrings(lane.vrings, bases);
    lane.driverReady();
    for (const vring of lane.vrings) vring.kick.signal();
  }

  /** Ring features, and those that the device's requests need. */
  wantedFeatures(...without: readonly number[]): bigint {
    return (ringFeatures | (this.#exercise?.features ?? 0n)) & ~mask(...without);
  }

  /** Memory to be kept over several connections; released with the check. */
  memory(options: MemoryOptions = { size: 8 * 2 ** 20 }): GuestMemory {
    return this.keep(new GuestMemory(options));
  }

  /** Lets time pass in which nothing must happen. */
  pause(milliseconds: number = QUIET): void {
    sleep(milliseconds);
  }

  /** Fails the check unless the back-end still takes connections and, if known how, requests. */
  expectAlive(): void {
    this.close();
    if (this.target.owned && !this.target.oneShot && !this.target.alive) {
      fail("the process to go on", `it ended: ${this.target.lastWords || "no message"}`);
    }
    if (this.#exercise === null) {
      this.greet();
      this.close();
      return;
    }
    this.running().run(4);
    this.close();
  }

  /**
   * Fails the check when the program holds more and more descriptors. `body` is run a few times
   * before they are counted, because much is made at the first use, then `times` times.
   */
  expectNoLeak(times: number, body: () => void): void {
    this.needsProcess();
    this.needsReconnect();
    const turn = (): void => {
      body();
      this.close();
    };
    for (let i = 0; i < 3; i++) turn();
    const before = this.target.settledDescriptors();
    for (let i = 0; i < times; i++) turn();
    const after = this.target.settledDescriptors(before);
    if (after - before > times / 2) {
      fail(`about ${before} open descriptors after ${times} times`, `${after}`);
    }
  }

  /** Closes all connections and releases what belongs to them. */
  close(): void {
    for (const resource of this.#open.splice(0).reverse()) resource[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
