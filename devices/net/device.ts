/** One network interface of a guest: its queues, and the port at its other end. */
import type { Chain } from "../../core/chain.ts";
import { type Device, type Host, STOP, type Virtqueue } from "../../core/device.ts";
import { ProtocolError } from "../../core/errors.ts";
import { has, mask, RingFeature, VhostFeature } from "../../core/features.ts";
import { HostChain } from "../../core/host-chain.ts";
import type { Capture } from "./capture.ts";
import { type ControlTarget, handleControl } from "./control.ts";
import { Counter, type Counters, describeCounters, newCounters } from "./counters.ts";
import { RxFilter } from "./filter.ts";
import { Frame } from "./frame.ts";
import { formatMac } from "./mac.ts";
import { guestOffloadBits, guestOffloads, hostOffloads, noOffloads } from "./offloads.ts";
import { type GuestSide, type Port, Sent } from "./port.ts";
import { rarpFrame } from "./rarp.ts";
import { Receiver } from "./receiver.ts";
import { decodeState, encodeState } from "./state.ts";
import { Steering } from "./steering.ts";
import {
  ETHERNET_HEADER,
  Header,
  MAX_FRAME,
  type NetConfig,
  NetFeature,
  NetStatus,
  VLAN_TAG,
} from "./wire.ts";

const { TX_FRAMES, TX_BYTES, TX_DROPPED, TX_INVALID } = Counter;
const { DONE, WAIT } = Sent;

export interface NetSettings {
  readonly port: Port;
  readonly pairs: number;
  /** The interface's address, or null when the driver chooses it. */
  readonly mac: Uint8Array | null;
  /** The largest packet, or null for no limit. In bytes, without the Ethernet header. */
  readonly mtu: number | null;
  readonly capture: Capture | null;
  readonly host: Host<typeof NetConfig.schema>;
}

export class NetDevice implements Device, GuestSide, ControlTarget {
  readonly receivers: readonly Receiver[];
  readonly counters: Counters = newCounters();
  readonly filter = new RxFilter();
  readonly maxPairs: number;
  readonly #host: NetSettings["host"];
  readonly #port: Port;
  readonly #capture: Capture | null;
  readonly #ownMac: Uint8Array | null;
  readonly #mtuLimit: number | null;
  readonly #frame = new Frame();
  /** Transmit queues that run. */
  readonly #transmitting = new Set<Virtqueue>();
  #features = 0n;
  #controlIndex = -1;
  #headerSize: number = Header.size;
  #allowed = noOffloads;
  #mtu: number | null;
  readonly #steering: Steering;
  #status: number;
  /** The host side has a link, and the operator wants one. */
  #portUp: boolean;
  #wanted = true;
  /** Pairs that the driver says it uses; null when it does not say so to us. */
  #pairs: number | null = null;
  #moved = false;
  #owned: Disposable | null = null;
  /** The receive queue that has buffers for frames that may wait. */
  #woken = -1;

  constructor({ port, pairs, mac, mtu, capture, host }: NetSettings) {
    this.#host = host;
    this.#port = port;
    this.#capture = capture;
    this.#ownMac = mac;
    this.#mtuLimit = mtu;
    this.#mtu = mtu;
    this.#portUp = port.link;
    this.#status = port.link ? NetStatus.LINK_UP : 0;
    this.maxPairs = pairs;
    this.receivers = Array.from({ length: pairs }, () => {
      const receiver = new Receiver(this.counters);
      receiver.capture = capture;
      return receiver;
    });
    this.#steering = new Steering(this.receivers, port);
    if (mac !== null) this.filter.mac = mac;
    port.attach(this);
  }

  /** Values of the config space to begin with. */
  get status(): number {
    return this.#status;
  }

  handle(chain: Chain, queue: Virtqueue): number {
    const { index } = queue;
    if (index === this.#controlIndex) return handleControl(chain, this);
    const pair = index >> 1;
    if ((index & 1) === 0) {
      // Buffers to receive into: they are taken when there are frames, and not before this one is back.
      this.#woken = index;
      return STOP;
    }
    const frame = this.#frame;
    const { counters } = this;
    if (!frame.parse(chain, this.#headerSize, this.#allowed)) {
      counters[TX_INVALID]!++;
      return 0;
    }
    const sent = this.#wanted ? this.#port.send(frame, pair) : Sent.DROPPED;
    if (sent === DONE) {
      counters[TX_FRAMES]!++;
      counters[TX_BYTES]! += frame.length;
    } else if (sent === WAIT) return STOP;
    else counters[TX_DROPPED]!++;
    if (this.#capture !== null) this.#capture.sent(frame);
    return 0;
  }

  flush(queue: Virtqueue): void {
    const { index } = queue;
    if ((index & 1) === 1) this.#port.flush?.(index >> 1);
    else if (index === this.#woken) {
      this.#woken = -1;
      this.#steering.wake(index >> 1);
    }
  }

  negotiated(features: bigint): void {
    const own = features & ~mask(VhostFeature.LOG_ALL);
    // Nothing else changes when a migration begins or ends.
    if (own === this.#features) return;
    this.#features = own;
    const modern = has(own, RingFeature.VERSION_1) || has(own, NetFeature.MRG_RXBUF);
    this.#headerSize = modern ? Header.size : Header.legacySize;
    this.#allowed = hostOffloads(own);
    this.#controlIndex = !has(own, NetFeature.CTRL_VQ)
      ? -1
      : has(own, NetFeature.MQ)
        ? 2 * this.maxPairs
        : 2;
    this.filter.reset(has(own, NetFeature.CTRL_VLAN));
    this.filterChanged();
    for (const receiver of this.receivers) {
      receiver.headerSize = this.#headerSize;
      receiver.mergeable = has(own, NetFeature.MRG_RXBUF);
    }
    this.#limitFrames();
    this.#passOn(own);
    this.#announce();
  }

  started(queue: Virtqueue): void {
    const pair = queue.index >> 1;
    if (queue.index === this.#controlIndex) {
      // Until it says so, the driver uses the first pair only.
      if (has(this.#features, NetFeature.MQ)) this.#usePairs(this.#pairs ?? 1);
    } else if ((queue.index & 1) === 1) this.#transmitting.add(queue);
    else if (pair < this.maxPairs) this.#steering.started(pair, queue);
  }

  stopping(queue: Virtqueue): void {
    this.#transmitting.delete(queue);
    if (queue.index === this.#controlIndex || (queue.index & 1) === 1) return;
    this.#steering.stopping(queue.index >> 1, queue);
  }

  reset(): void {
    this.#features = 0n;
    this.#mtu = this.#mtuLimit;
    this.#moved = false;
    this.#usePairs(null);
    if (this.#ownMac !== null) this.setMac(this.#ownMac);
    this.#setStatus(this.#status & ~NetStatus.ANNOUNCE);
    this.filter.reset(false);
    this.filterChanged();
  }

  disconnected(): void {
    this.#tell();
    this.reset();
    this.#port.reset?.();
  }

  reload(): void {
    this.#tell();
  }

  rarp(mac: Uint8Array): void {
    const data = rarpFrame(mac);
    using chain = new HostChain(data.length);
    chain.bytes.set(data);
    chain.select(0, data.length);
    this.#frame.plain(chain, 0, data.length);
    const sent = this.#port.send(this.#frame, 0) === DONE;
    this.#port.flush?.(0);
    if (sent) this.#capture?.sent(this.#frame);
    this.#host.log.info(sent ? "Announced the interface" : "Cannot announce the interface", {
      mac: formatMac(mac),
    });
  }

  mtu(bytes: number): void {
    const limit = this.#mtuLimit;
    if (limit !== null && bytes > limit) {
      throw new ProtocolError(`Cannot use an MTU of ${bytes}: the host side has ${limit}`);
    }
    this.#mtu = bytes;
    this.#limitFrames();
    this.#host.log.info("The front-end sets the MTU", { bytes });
  }

  save(): Uint8Array {
    const { filter } = this;
    return encodeState({ filter, mtu: this.#mtu ?? 0, pairs: this.#pairs ?? 0 });
  }

  load(state: Uint8Array): void {
    const { mtu, pairs } = decodeState(state, this.filter, this.maxPairs);
    if (mtu > 0) this.mtu(mtu);
    if (pairs > 0) this.#usePairs(pairs);
    if (has(this.#features, NetFeature.CTRL_MAC_ADDR)) this.setMac(this.filter.mac);
    this.filterChanged();
    this.#moved = true;
    this.#host.log.info("The interface has moved here", { mtu });
    this.#announce();
  }

  // What a port asks for.

  resume(): void {
    for (const queue of this.#transmitting) queue.resume();
  }

  setLink(up: boolean): void {
    this.#portUp = up;
    this.#updateLink();
  }

  // What the operator asks for.

  /** Something that ends with the interface. */
  owns(thing: Disposable): void {
    this.#owned = thing;
  }

  /** Takes the interface off the host side, or puts it back. */
  wantLink(up: boolean): void {
    if (up === this.#wanted) return;
    this.#wanted = up;
    this.#host.log.info(up ? "The link is put up" : "The link is taken down");
    this.#updateLink();
    this.#steer();
  }

  // What the control queue asks for.

  filterChanged(): void {
    const filter = this.filter.open ? null : this.filter;
    for (const receiver of this.receivers) receiver.filter = filter;
  }

  setMac(mac: Uint8Array): void {
    this.filter.mac = mac.slice();
    this.#host.updateConfig({ mac: this.filter.mac });
  }

  setPairs(pairs: number): void {
    this.#host.log.debug("The driver uses queue pairs", { pairs });
    this.#usePairs(pairs);
  }

  setGuestOffloads(features: bigint): boolean {
    const possible = this.#features & guestOffloadBits;
    if ((features & ~possible) !== 0n) return false;
    this.#passOn((this.#features & ~guestOffloadBits) | features);
    return true;
  }

  announced(): void {
    this.#setStatus(this.#status & ~NetStatus.ANNOUNCE);
  }

  [Symbol.dispose](): void {
    this.#owned?.[Symbol.dispose]();
    this.#port[Symbol.dispose]();
    this.#capture?.[Symbol.dispose]();
  }

  #usePairs(pairs: number | null): void {
    this.#pairs = pairs;
    this.#steer();
  }

  #steer(): void {
    this.#steering.limit = this.#wanted ? (this.#pairs ?? this.maxPairs) : 0;
  }

  #updateLink(): void {
    const { LINK_UP } = NetStatus;
    const up = this.#portUp && this.#wanted;
    this.#setStatus(up ? this.#status | LINK_UP : this.#status & ~LINK_UP);
  }

  /** Tells the port and the receivers what the guest takes. */
  #passOn(features: bigint): void {
    const offloads = guestOffloads(features);
    for (const receiver of this.receivers) receiver.offloads = offloads;
    this.#port.configure?.({ headerSize: this.#headerSize, offloads });
  }

  #limitFrames(): void {
    const mtu = this.#mtu;
    const longest = mtu === null ? MAX_FRAME : mtu + ETHERNET_HEADER + VLAN_TAG;
    for (const receiver of this.receivers) receiver.maxFrame = longest;
  }

  /** After a migration the guest is asked to tell where it is now. */
  #announce(): void {
    if (!this.#moved || !has(this.#features, NetFeature.GUEST_ANNOUNCE)) return;
    this.#moved = false;
    this.#setStatus(this.#status | NetStatus.ANNOUNCE);
  }

  #setStatus(status: number): void {
    if (status === this.#status) return;
    this.#status = status;
    this.#host.updateConfig({ status });
  }

  #tell(): void {
    this.#host.log.info("Frames so far", describeCounters(this.counters));
  }
}
