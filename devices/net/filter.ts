/** Which frames the driver wants (virtio 1.3, 5.1.6.5.1 to 5.1.6.5.3). */
import type { Frame } from "./frame.ts";
import { Control, MAC_SIZE } from "./wire.ts";

/** Addresses of each kind that are kept; a driver that lists more gets all frames of the kind. */
export const TABLE_LIMIT = 64;
const VLANS = 4096;
const ETHERTYPE_VLAN = 0x8100;
const { PROMISC, ALLMULTI, ALLUNI, NOMULTI, NOUNI, NOBCAST } = Control.RX;

/** A list of addresses, or all of a kind. */
export interface MacList {
  readonly all: boolean;
  /** One after another. */
  readonly macs: Uint8Array;
}

const none: MacList = { all: false, macs: new Uint8Array(0) };

export class RxFilter {
  /** 1 for each mode that is on, by its command. */
  readonly modes = new Uint8Array(6);
  readonly vlans = new Uint8Array(VLANS / 8);
  mac: Uint8Array = new Uint8Array(MAC_SIZE);
  unicast: MacList = none;
  multicast: MacList = none;
  /** Tagged frames are filtered. */
  #tagged = false;

  constructor() {
    this.reset(false);
  }

  /** All frames are admitted. */
  get open(): boolean {
    return this.modes[PROMISC] === 1;
  }

  /** `vlan`: the driver tells its VLANs. */
  reset(vlan: boolean): void {
    this.modes.fill(0);
    this.modes[PROMISC] = 1;
    this.vlans.fill(0);
    this.unicast = none;
    this.multicast = none;
    this.#tagged = vlan;
  }

  setVlan(id: number, on: boolean): void {
    const bit = 1 << (id & 7);
    if (on) this.vlans[id >> 3]! |= bit;
    else this.vlans[id >> 3]! &= ~bit;
  }

  admits({ chain, at }: Frame): boolean {
    const { modes } = this;
    if (modes[PROMISC] === 1) return true;
    const type = (chain.readU8(at + 12) << 8) | chain.readU8(at + 13);
    if (this.#tagged && type === ETHERTYPE_VLAN) {
      // Read as far as the frame has it: 14 bytes are all that is sure.
      if (chain.readableBytes < at + 16) return false;
      const id = ((chain.readU8(at + 14) & 0x0f) << 8) | chain.readU8(at + 15);
      if ((this.vlans[id >> 3]! & (1 << (id & 7))) === 0) return false;
    }
    const target = new Uint8Array(MAC_SIZE);
    chain.read(target, at);
    if (target.every((byte) => byte === 0xff)) return modes[NOBCAST] === 0;
    if ((target[0]! & 1) !== 0) {
      if (modes[NOMULTI] === 1) return false;
      return modes[ALLMULTI] === 1 || lists(this.multicast, target);
    }
    if (modes[NOUNI] === 1) return false;
    return modes[ALLUNI] === 1 || same(this.mac, 0, target) || lists(this.unicast, target);
  }
}

function same(macs: Uint8Array, at: number, mac: Uint8Array): boolean {
  for (let i = 0; i < MAC_SIZE; i++) if (macs[at + i] !== mac[i]) return false;
  return true;
}

function lists({ all, macs }: MacList, mac: Uint8Array): boolean {
  if (all) return true;
  for (let at = 0; at < macs.length; at += MAC_SIZE) if (same(macs, at, mac)) return true;
  return false;
}
