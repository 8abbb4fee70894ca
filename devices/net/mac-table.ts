/**
 * Where addresses were seen last: a bounded table of MAC addresses by VLAN (IEEE 802.1Q, 8.8). Sets of
 * four entries each, in typed arrays, so that learning costs no allocation. A port that claims more
 * addresses than its share overwrites its own, never those of others.
 */

const SETS = 2048;
const WAYS = 4;
const SIZE = SETS * WAYS;
/** Entries of one port at most. */
const PORT_LIMIT = 1024;
const FREE = 0xffff;

export class MacTable {
  readonly #low = new Int32Array(SIZE);
  /** The first two bytes of the address, and the VLAN. */
  readonly #high = new Int32Array(SIZE);
  readonly #port = new Uint16Array(SIZE).fill(FREE);
  /** When it was seen last, in seconds. */
  readonly #seen = new Uint32Array(SIZE);
  readonly #counts: Uint32Array;
  readonly #ageing: number;
  /** The time in seconds. */
  now = 0;

  /** For ports from 0 to `ports - 1`; `ageing` in seconds. */
  constructor(ports: number, ageing: number) {
    this.#counts = new Uint32Array(ports);
    this.#ageing = ageing;
  }

  /** The port where an address is, or -1. `low`: its last four bytes, `high`: its first two and the VLAN. */
  find(high: number, low: number): number {
    const set = setOf(high, low);
    for (let i = set; i < set + WAYS; i++) {
      if (this.#low[i] !== low || this.#high[i] !== high || this.#port[i] === FREE) continue;
      return this.now - this.#seen[i]! > this.#ageing ? -1 : this.#port[i]!;
    }
    return -1;
  }

  /** Notes that a frame from an address came by a port. */
  learn(high: number, low: number, port: number): void {
    const set = setOf(high, low);
    for (let i = set; i < set + WAYS; i++) {
      if (this.#low[i] !== low || this.#high[i] !== high || this.#port[i] === FREE) continue;
      if (this.#port[i] !== port) this.#move(i, port);
      this.#seen[i] = this.now;
      return;
    }
    this.#enter(set, high, low, port);
  }

  /** Forgets what is known of a port. */
  forget(port: number): void {
    for (let i = 0; i < SIZE; i++) if (this.#port[i] === port) this.#port[i] = FREE;
    this.#counts[port] = 0;
  }

  #enter(set: number, high: number, low: number, port: number): void {
    const own = this.#counts[port]! >= PORT_LIMIT;
    let place = -1;
    for (let i = set; i < set + WAYS; i++) {
      const holder = this.#port[i]!;
      if (holder === FREE && !own) {
        place = i;
        break;
      }
      // Its own oldest, or one that is too old, whoever it belongs to.
      const old = holder !== FREE && this.now - this.#seen[i]! > this.#ageing;
      if (holder !== port && (own || !old)) continue;
      if (place < 0 || this.#seen[i]! < this.#seen[place]!) place = i;
    }
    if (place < 0) return;
    this.#move(place, port);
    this.#low[place] = low;
    this.#high[place] = high;
    this.#seen[place] = this.now;
  }

  #move(place: number, port: number): void {
    const before = this.#port[place]!;
    if (before !== FREE) this.#counts[before]!--;
    this.#counts[port]!++;
    this.#port[place] = port;
  }
}

function setOf(high: number, low: number): number {
  const mixed = Math.imul(low ^ Math.imul(high, 0x85ebca6b), 0x9e3779b1);
  return (mixed >>> 21) * WAYS;
}
