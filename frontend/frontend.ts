/** A vhost-user front-end: what a virtual machine monitor does between a guest and a back-end. */
import { describeBits, has, mask, RingFeature, VhostFeature } from "../core/features.ts";
import { U64 } from "../core/payloads.ts";
import { ConfigFlag, DeviceStatus, frontEndMessages, ProtocolFeature } from "../core/protocol.ts";
import { Fd } from "../ffi/mod.ts";
import type { BackEndRequests } from "./backend-requests.ts";
import { readConfig, writeConfig } from "./config-messages.ts";
import { Connection } from "./connection.ts";
import { type DirtyBits, sendLog } from "./dirty-log.ts";
import { BackEndError } from "./errors.ts";
import { type FrontendOptions, withIommu } from "./frontend-options.ts";
import { GuestMemory, type GuestRegion } from "./guest-memory.ts";
import { InflightArea } from "./inflight.ts";
import { Iommu } from "./iommu.ts";
import { sendAddRegion, sendMemoryTable, sendRemoveRegion } from "./memory-messages.ts";
import { type Negotiated, negotiate, passRequests } from "./negotiation.ts";
import { PACKED_BASE } from "./packed-position.ts";
import { type PageServer, Postcopy } from "./postcopy.ts";
import { Vring, type VringOptions } from "./vring.ts";
import { setUpEach, setUpTogether } from "./vring-orders.ts";

export type { FrontendOptions };

/** Where a back-end is: the path of its socket, or a connection to it. */
export type BackEndAddress = string | Fd | Connection;

const M = frontEndMessages;

export class Frontend implements Disposable {
  readonly options: FrontendOptions;
  readonly memory: GuestMemory;
  readonly vrings: Vring[] = [];
  /** What translates the device's addresses; null when they are the guest's. */
  readonly iommu: Iommu | null;
  #connection: Connection;
  #agreed: Negotiated;
  #path: string | null = null;
  /** Regions that this connection's back-end has. */
  readonly #shared = new Set<GuestRegion>();
  #started = false;
  /** Where the back-end marks what it writes, while the guest moves away. */
  #log: DirtyBits | null = null;
  #inflight: InflightArea | null = null;

  /** Takes `connection` and runs the handshake on it. */
  constructor(connection: Connection, options: FrontendOptions = {}) {
    const { memory } = options;
    this.options = options;
    this.#connection = connection;
    try {
      this.#agreed = negotiate(
        connection,
        withIommu(options, () => this.iommu),
      );
      const mirrored = this.hasProtocol(ProtocolFeature.GPA_ADDRESSES);
      const plan = { mirrored, ...memory };
      this.memory = memory instanceof GuestMemory ? memory : new GuestMemory(plan);
      this.iommu = this.#makeIommu(mirrored);
      this.iommu?.attach(connection, this.#agreed.requests);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /**
   * Connects to a path, where it tries again until somebody listens there or the time is up, or goes
   * on over a connected socket, which it takes.
   */
  static open(to: BackEndAddress, options: FrontendOptions = {}): Frontend {
    if (to instanceof Connection) return new Frontend(to, options);
    if (to instanceof Fd) return new Frontend(new Connection(to, options), options);
    const frontend = new Frontend(Connection.connect(to, options), options);
    frontend.#path = to;
    return frontend;
  }

  #makeIommu(byGuest: boolean): Iommu | null {
    const { iommu } = this.options;
    if (iommu === undefined || !has(this.features, RingFeature.ACCESS_PLATFORM)) return null;
    return new Iommu(this.memory, byGuest, iommu);
  }

  get connection(): Connection {
    return this.#connection;
  }

  /** What both sides agreed on. */
  get agreed(): Negotiated {
    return this.#agreed;
  }

  /** The virtio features of this session. */
  get features(): bigint {
    return this.#agreed.features;
  }

  /** The back-end's own requests. Throws when it makes none. */
  get requests(): BackEndRequests {
    const { requests } = this.#agreed;
    if (requests === null)
      throw new Error("Cannot receive requests: BACKEND_REQ is not negotiated");
    return requests;
  }

  hasProtocol(feature: number): boolean {
    return has(this.#agreed.protocol, feature);
  }

  /** Makes a vring, which `start` sets up. */
  addVring(index: number, options: VringOptions): Vring {
    const vring = new Vring(index, this.memory, {
      eventIdx: has(this.features, RingFeature.EVENT_IDX),
      inOrder: has(this.features, RingFeature.IN_ORDER),
      packed: has(this.features, RingFeature.RING_PACKED),
      legacy: !has(this.features, RingFeature.VERSION_1),
      ...(this.iommu === null ? {} : { iommu: this.iommu }),
      ...options,
    });
    this.vrings.push(vring);
    return vring;
  }

  /** The region of requests in flight; null when none is used. */
  get inflight(): InflightArea | null {
    return this.#inflight;
  }

  /** The driver is ready: features, memory, vrings, each from its base on. */
  start(bases: readonly number[] = this.vrings.map((vring) => vring.ring.base)): void {
    this.acceptFeatures();
    this.#shareInflight();
    this.shareMemory();
    this.startVrings(this.vrings, bases);
    this.#setReady();
  }

  #setReady(): void {
    if (this.hasProtocol(ProtocolFeature.STATUS)) {
      const { ACKNOWLEDGE, DRIVER, DRIVER_OK } = DeviceStatus;
      this.addStatus(ACKNOWLEDGE | DRIVER | DRIVER_OK);
    }
    this.barrier();
    this.#started = true;
  }

  acceptFeatures(features: bigint = this.#wanted): void {
    this.#connection.command(M.SET_FEATURES, U64.encode({ value: features }));
    if (!this.hasProtocol(ProtocolFeature.STATUS)) return;
    this.addStatus(DeviceStatus.FEATURES_OK);
    if ((this.getStatus() & DeviceStatus.FEATURES_OK) === 0) {
      throw new BackEndError("refused", "The back-end does not keep FEATURES_OK");
    }
  }

  get #wanted(): bigint {
    return this.features | (this.#log === null ? 0n : mask(VhostFeature.LOG_ALL));
  }

  /**
   * Has the back-end mark all that it writes to guest memory from now on, the rings' used parts
   * included; rings may be running. Another log takes the place of the one in use.
   */
  startLogging(log: DirtyBits): void {
    if (!has(this.agreed.offered, VhostFeature.LOG_ALL)) {
      throw new BackEndError("refused", "The back-end does not offer LOG_ALL");
    }
    sendLog(this.#connection, log);
    const running = this.#log !== null;
    this.#log = log;
    if (!running) this.#switchLogging();
  }

  /** Ends what `startLogging` began. The log is the caller's, and complete. */
  stopLogging(): void {
    this.#log = null;
    this.#switchLogging();
  }

  /** In the order of QEMU. */
  #switchLogging(): void {
    const connection = this.#connection;
    connection.command(M.SET_FEATURES, U64.encode({ value: this.#wanted }));
    for (const vring of this.vrings) {
      if (vring.started) vring.setAddresses(connection, this.#log !== null);
    }
  }

  /** Gives the back-end the region of requests in flight, which it makes itself at first. */
  #shareInflight(): void {
    if (!this.options.inflight || !this.hasProtocol(ProtocolFeature.INFLIGHT_SHMFD)) return;
    const size = Math.max(...this.vrings.map(({ ring }) => ring.size));
    this.#inflight ??= InflightArea.ask(this.#connection, this.vrings.length, size);
    this.#inflight.give(this.#connection);
  }

  /** Shares what the back-end does not have yet, as `options.share` says. */
  shareMemory(): void {
    const slots = this.hasProtocol(ProtocolFeature.CONFIGURE_MEM_SLOTS);
    const { share = slots ? "slots" : "table" } = this.options;
    if (share === "table") return this.replaceMemory();
    if (!slots) {
      throw new Error("Cannot share memory in slots: CONFIGURE_MEM_SLOTS is not negotiated");
    }
    for (const region of this.memory.regions) {
      if (!this.#shared.has(region)) this.#share(region);
    }
  }

  #share(region: GuestRegion): void {
    sendAddRegion(this.#connection, region);
    this.#shared.add(region);
  }

  /** Sends the table of all regions, which replaces what was shared before. */
  replaceMemory(): void {
    sendMemoryTable(this.#connection, this.memory.regions);
    this.#shared.clear();
    for (const region of this.memory.regions) this.#shared.add(region);
  }

  /** Appends a region to the guest's memory and shares it. */
  addRegion(size?: number): GuestRegion {
    const region = this.memory.append(size);
    this.#share(region);
    return region;
  }

  /** Takes a region away from the back-end and from the guest. */
  removeRegion(region: GuestRegion): void {
    sendRemoveRegion(this.#connection, region);
    this.#shared.delete(region);
    this.memory.remove(region);
    region[Symbol.dispose]();
  }

  /** Sets up, starts and enables vrings, each at its base. */
  startVrings(vrings: readonly Vring[], bases: readonly number[]): void {
    const connection = this.#connection;
    const logged = this.#log !== null;
    if (this.options.order === "owner-first") {
      setUpTogether(connection, vrings, bases, logged);
      const { requests } = this.#agreed;
      if (requests !== null && !requests.remote.closed) passRequests(connection, requests);
    } else setUpEach(connection, vrings, bases, logged);
    if (this.#log !== null) sendLog(this.#connection, this.#log);
    if (!has(this.features, VhostFeature.PROTOCOL_FEATURES)) return;
    for (const vring of vrings) vring.enable(this.#connection, true);
  }

  /** Stops a vring. Returns the base that it goes on from. */
  stopVring(vring: Vring): number {
    if (has(this.features, VhostFeature.PROTOCOL_FEATURES)) vring.enable(this.#connection, false);
    return vring.stop(this.#connection);
  }

  /** Stops all vrings, as for a paused guest. Returns their bases. */
  stop(): number[] {
    const bases = this.vrings.map((vring) => this.stopVring(vring));
    if (this.hasProtocol(ProtocolFeature.STATUS)) this.setStatus(0);
    this.#started = false;
    return bases;
  }

  /**
   * Stops all vrings without waiting for what is in flight, which stays recorded for the next back-end
   * (GET_VRING_BASE_SKIP_DRAIN). Returns their bases.
   */
  stopAtOnce(): number[] {
    const row = M.GET_VRING_BASE_SKIP_DRAIN;
    const bases = this.vrings.map((vring) => vring.stop(this.#connection, row));
    this.#started = false;
    return bases;
  }

  /** Waits until the back-end has read everything that was sent. */
  barrier(): void {
    this.#connection.request(M.GET_FEATURES);
  }

  /** Reads config space. Null when the back-end says that the range cannot be read. */
  getConfig(offset: number, size: number): Uint8Array<ArrayBuffer> | null {
    return readConfig(this.#connection, offset, size);
  }

  /** Writes config space. */
  setConfig(offset: number, data: Uint8Array, flags: number = ConfigFlag.WRITABLE): void {
    writeConfig(this.#connection, offset, data, flags);
  }

  getStatus(): number {
    return Number(U64.decode(this.#connection.request(M.GET_STATUS).payload).value);
  }

  setStatus(status: number): void {
    this.#connection.command(M.SET_STATUS, U64.encode({ value: BigInt(status) }));
  }

  /** Sets further bits of the device status. */
  addStatus(bits: number): void {
    this.setStatus(this.getStatus() | bits);
  }

  resetDevice(): void {
    this.#connection.command(M.RESET_DEVICE);
  }

  /** Drops the connection as a front-end does that dies: without a word. */
  disconnect(): void {
    this.#connection.close();
    this.#agreed.requests?.[Symbol.dispose]();
    this.#shared.clear();
  }

  /**
   * Connects anew, to the same path or over `socket`, and goes on: features and memory as before,
   * each ring from its used index on with what is still in flight. With a region of requests in flight
   * rings are left alone; of packed ones a front-end then knows no base, as QEMU.
   */
  reconnect(socket?: Fd): void {
    this.disconnect();
    const kept = this.features & ~mask(VhostFeature.PROTOCOL_FEATURES);
    const end = performance.now() + this.#connection.timeout;
    while (!this.#renew(socket, kept)) {
      if (performance.now() > end) {
        throw new BackEndError("closed", "The back-end ends each new connection at once");
      }
    }
    const missing = kept & ~this.features;
    if (missing !== 0n) {
      const names = describeBits(missing, RingFeature);
      throw new BackEndError("refused", `The new back-end does not offer what is in use: ${names}`);
    }
    if (!this.#started) return;
    // The handshake shows that the last session is over and writes to the rings no more.
    const recorded = this.#inflight !== null;
    const bases = this.vrings.map(({ ring }) => {
      if (!recorded) return ring.rewind();
      return ring.packed ? PACKED_BASE : ring.shownUsedIndex;
    });
    this.acceptFeatures();
    this.#shareInflight();
    this.shareMemory();
    this.startVrings(this.vrings, bases);
    this.barrier();
  }

  /**
   * Moves the guest to another back-end: its rings stop here and go on there. With `pages` its memory
   * comes after it, and the caller ends the postcopy that is returned.
   */
  migrate(to: string | Fd, pages: PageServer): Postcopy;
  migrate(to: string | Fd): null;
  migrate(to: string | Fd, pages?: PageServer): Postcopy | null {
    const bases = this.stop();
    this.disconnect();
    pages?.leave();
    const { timeout } = this.options;
    const connection =
      typeof to === "string"
        ? Connection.connect(to, { timeout })
        : new Connection(to, { timeout });
    this.#connection = connection;
    this.#path = typeof to === "string" ? to : null;
    const kept = this.features & ~mask(VhostFeature.PROTOCOL_FEATURES);
    this.#agreed = negotiate(connection, { ...this.options, features: kept });
    const postcopy = pages ? new Postcopy(connection, this.#agreed.protocol) : null;
    try {
      postcopy?.listen();
      this.acceptFeatures();
      if (pages) postcopy?.share(this.memory.regions, pages);
      else this.shareMemory();
      this.startVrings(this.vrings, bases);
      this.#setReady();
      return postcopy;
    } catch (error) {
      postcopy?.[Symbol.dispose]();
      throw error;
    }
  }

  /** Makes a new connection. False when it was still accepted by a program that is ending. */
  #renew(socket: Fd | undefined, features: bigint): boolean {
    const { timeout } = this.options;
    if (socket !== undefined) this.#connection = new Connection(socket, { timeout });
    else if (this.#path !== null) this.#connection = Connection.connect(this.#path, { timeout });
    else throw new Error("Cannot reconnect: the front-end was given a connection, not a path");
    try {
      const options = withIommu({ ...this.options, features }, () => this.iommu);
      this.#agreed = negotiate(this.#connection, options);
      this.iommu?.attach(this.#connection, this.#agreed.requests);
      return true;
    } catch (error) {
      this.#connection.close();
      const gone = error instanceof BackEndError && error.fault === "closed";
      if (socket === undefined && gone) return false;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.disconnect();
    for (const vring of this.vrings) vring[Symbol.dispose]();
    this.#inflight?.[Symbol.dispose]();
    this.memory[Symbol.dispose]();
  }
}
