/**
 * A learning Ethernet switch between the guests of one program: a frame goes straight from one guest's
 * memory to another's. Ports of different VLANs have nothing to do with one another. A port whose guest
 * has no buffers loses its frames, which is counted, and holds up nobody.
 */
import type { Host } from "../../../core/mod.ts";
import type { Frame } from "../frame.ts";
import { MacTable } from "../mac-table.ts";
import { allOffloads, type Offloads } from "../offloads.ts";
import { type GuestSide, type Port, type PortSettings, Sent } from "../port.ts";
import type { NetFeatureName } from "../wire.ts";
import { Uplink } from "./uplink.ts";

const SECOND = 1000;

export interface SwitchOptions {
  /** The VLAN of each guest's port; 0 where there is none. */
  readonly vlans: readonly number[];
  /** Seconds until a silent address is forgotten. */
  readonly ageing: number;
  /** Makes the way out for the ports of VLAN 0, if there is one. */
  readonly uplink?: (() => Port) | undefined;
}

/** What the switch has a port for. */
export interface Member {
  readonly vlan: number;
  /** Passes a frame on; it is copied by then. */
  deliver(frame: Frame, pair: number): boolean;
  /** The end of a batch. */
  endBatch(): void;
}

/** Makes a switch; returns the ports of its guests. */
export function openSwitch(options: SwitchOptions, hosts: readonly Host<any>[]): Port[] {
  const uplink = options.uplink?.() ?? null;
  const table = new MacTable(options.vlans.length + 1, options.ageing);
  const fabric = new Fabric(table);
  const started = performance.now();
  const clock = hosts[0]!.every(SECOND, () => {
    table.now = Math.floor((performance.now() - started) / SECOND);
  });
  let open = options.vlans.length;
  const closed = (): void => {
    if (--open > 0) return;
    clock[Symbol.dispose]();
    uplink?.[Symbol.dispose]();
  };
  const offloads = uplink?.offloads ?? allOffloads;
  const ports = options.vlans.map((vlan) => {
    const port = new SwitchPort(fabric, vlan, offloads, closed);
    fabric.add(port);
    return port;
  });
  if (uplink !== null) fabric.add(new Uplink(fabric, uplink, ports));
  return ports;
}

/** Finds the ports that a frame is for. */
export class Fabric {
  /** Called when a guest takes other offloads than before. */
  changed: () => void = () => {};
  readonly #members: Member[] = [];
  readonly #table: MacTable;
  /** Numbers of the members that have got something since the last `flush`, once each. */
  readonly #dirty = new Int32Array(1024);
  #dirtyCount = 0;
  readonly #isDirty = new Uint8Array(1024);

  constructor(table: MacTable) {
    this.#table = table;
  }

  add(member: Member): void {
    this.#members.push(member);
  }

  numberOf(member: Member): number {
    return this.#members.indexOf(member);
  }

  forget(member: number): void {
    this.#table.forget(member);
  }

  /** Passes on a frame that came by member `from`. False when nobody took it. */
  forward(frame: Frame, from: number, pair: number): boolean {
    const { chain, at } = frame;
    const members = this.#members;
    const { vlan } = members[from]!;
    const targetHigh = chain.readU16(at);
    const targetLow = chain.readU32(at + 2) | 0;
    const sourceHigh = chain.readU16(at + 6);
    const sourceLow = chain.readU32(at + 8) | 0;
    const tag = vlan << 16;
    // The lowest bit of the first byte says that it is more than one interface's.
    if ((sourceHigh & 1) === 0) this.#table.learn(sourceHigh | tag, sourceLow, from);
    if ((targetHigh & 1) === 0) {
      const to = this.#table.find(targetHigh | tag, targetLow);
      // It is where it came from: whoever it is for has it.
      if (to === from) return true;
      if (to >= 0) return this.#deliver(to, frame, pair);
    }
    let taken = false;
    for (let to = 0; to < members.length; to++) {
      if (to === from || members[to]!.vlan !== vlan) continue;
      if (this.#deliver(to, frame, pair)) taken = true;
    }
    return taken;
  }

  /** Shows everybody what came. */
  flush(): void {
    for (let i = 0; i < this.#dirtyCount; i++) {
      const member = this.#dirty[i]!;
      this.#isDirty[member] = 0;
      this.#members[member]!.endBatch();
    }
    this.#dirtyCount = 0;
  }

  #deliver(to: number, frame: Frame, pair: number): boolean {
    if (!this.#members[to]!.deliver(frame, pair)) return false;
    if (this.#isDirty[to] === 0) {
      this.#isDirty[to] = 1;
      this.#dirty[this.#dirtyCount++] = to;
    }
    return true;
  }
}

/** A guest's port. */
export class SwitchPort implements Port, Member {
  readonly offloads: readonly NetFeatureName[];
  readonly link = true;
  readonly vlan: number;
  readonly #fabric: Fabric;
  readonly #closed: () => void;
  #guest!: GuestSide;
  #number = -1;
  /** Queue pairs below this one have run. */
  #pairs = 1;
  /** What the guest takes; null while there is none. */
  guestOffloads: Offloads | null = null;

  constructor(
    fabric: Fabric,
    vlan: number,
    offloads: readonly NetFeatureName[],
    closed: () => void,
  ) {
    this.#fabric = fabric;
    this.vlan = vlan;
    this.offloads = offloads;
    this.#closed = closed;
  }

  attach(guest: GuestSide): void {
    this.#guest = guest;
    this.#number = this.#fabric.numberOf(this);
  }

  configure({ offloads }: PortSettings): void {
    this.guestOffloads = offloads;
    this.#fabric.changed();
  }

  wake(pair: number): void {
    if (pair >= this.#pairs) this.#pairs = pair + 1;
  }

  send(frame: Frame, pair: number): number {
    return this.#fabric.forward(frame, this.#number, pair) ? Sent.DONE : Sent.DROPPED;
  }

  flush(): void {
    this.#fabric.flush();
  }

  /** The guest is gone; where its addresses are now, nobody knows. */
  reset(): void {
    this.#fabric.forget(this.#number);
    this.#pairs = 1;
    this.guestOffloads = null;
    this.#fabric.changed();
  }

  deliver(frame: Frame, pair: number): boolean {
    const { receivers } = this.#guest;
    const receiver = receivers[pair < this.#pairs ? pair : pair % this.#pairs]!;
    return (receiver.running ? receiver : receivers[0]!).deliver(frame);
  }

  endBatch(): void {
    const { receivers } = this.#guest;
    for (let i = 0; i < this.#pairs; i++) receivers[i]!.publish();
  }

  [Symbol.dispose](): void {
    this.#closed();
  }
}
