/** Messages that are right in many ways and wrong in some, made of the protocol's own rows. */
import {
  ConfigHeader,
  Inflight,
  LogArea,
  type PayloadName,
  payloadSizes,
} from "../../core/payloads.ts";
import { Flag, frontEndMessages, type MessageRow } from "../../core/protocol.ts";
import type { Fd } from "../../ffi/mod.ts";
import {
  defaultTable,
  MEMORY_SIZE,
  memRegion,
  memTable,
  protocolMask,
  REGION_SIZE,
  type RegionFields,
  state,
  user,
  vringAddresses,
} from "./guest.ts";
import type { Random } from "./random.ts";
import { RING_STRIDE } from "./ring.ts";

const rows: readonly MessageRow[] = Object.values(frontEndMessages);
/** Messages that carry a session on; they come more often than the others. */
const common = rows.filter(({ name }) =>
  /VRING_(NUM|ADDR|KICK|CALL|ERR|ENABLE|BASE)|MEM/.test(name),
);

export interface Garbage {
  readonly code: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  /** What the header says, mostly the payload's size. */
  readonly size: number;
  readonly fds: readonly Fd[];
}

const wide = [0n, 1n, 63n, 4096n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];

export class GarbageMaker {
  readonly #random: Random;
  readonly #memfd: Fd;
  readonly #eventfds: readonly Fd[];
  readonly #objects: readonly Fd[];

  constructor(random: Random, memfd: Fd, eventfds: readonly Fd[], objects: readonly Fd[]) {
    this.#random = random;
    this.#memfd = memfd;
    this.#eventfds = eventfds;
    this.#objects = objects;
  }

  next(): Garbage {
    const random = this.#random;
    if (random.chance(0.02)) return this.#nonsense();
    const row = random.pick(random.chance(0.6) ? common : rows);
    const payload = this.#payload(row.payload);
    const count = this.#count(row, payload);
    const fds = Array.from({ length: count }, () => this.#descriptor(row));
    const flags = random.chance(0.97) ? Flag.VERSION | Flag.NEED_REPLY : random.below(16);
    const size = random.chance(0.99) ? payload.length : random.below(2100);
    return { code: row.code, flags, payload, size, fds };
  }

  /** Nothing of it means anything. */
  #nonsense(): Garbage {
    const random = this.#random;
    const payload = new Uint8Array(random.below(300));
    random.fill(payload);
    const fds = Array.from({ length: random.below(20) }, () => random.pick(this.#objects));
    return { code: random.bits(), flags: random.bits(), payload, size: random.bits(), fds };
  }

  #count({ fds, payload }: MessageRow, data: Uint8Array): number {
    const random = this.#random;
    if (random.chance(0.1)) return random.below(12);
    if (payload === "memTable") return Math.min(8, data[0]!);
    // KICK, CALL and ERR say in their payload whether a descriptor comes.
    if (payload === "u64" && fds[1] === 1) return data[1]! & 1 ? 0 : 1;
    return random.pick(fds);
  }

  #descriptor({ payload }: MessageRow): Fd {
    const random = this.#random;
    if (random.chance(0.15)) return random.pick(this.#objects);
    return payload.startsWith("mem") ? this.#memfd : random.pick(this.#eventfds);
  }

  #word(): bigint {
    const random = this.#random;
    if (random.chance(0.3)) return random.pick(wide);
    if (random.chance(0.5)) return BigInt(random.below(10));
    return (BigInt(random.bits()) << 32n) | BigInt(random.bits());
  }

  #index(): number {
    const random = this.#random;
    return random.chance(0.9) ? random.below(3) : random.pick([7, 8, 255, 256, 0xffffffff]);
  }

  #region(slot: number): RegionFields {
    const random = this.#random;
    if (random.chance(0.1)) {
      return { guest: this.#word(), size: this.#word(), user: this.#word(), offset: this.#word() };
    }
    if (slot < defaultTable.length) return defaultTable[slot]!;
    const size = 1 + random.below(REGION_SIZE / 4);
    const place = slot * 2 ** 32;
    const offset = random.chance(0.8) ? 4096 * random.below(1024) : random.below(2 * REGION_SIZE);
    return { guest: MEMORY_SIZE + place, user: 2 ** 46 + place, size, offset };
  }

  #addresses(): Uint8Array {
    const random = this.#random;
    const index = this.#index();
    const base = (index % 4) * RING_STRIDE;
    const near = (at: number) => {
      if (random.chance(0.05)) return this.#word();
      return BigInt(user(random.chance(0.9) ? base + at : random.below(MEMORY_SIZE)));
    };
    return vringAddresses(index, near, random.below(2));
  }

  #u64(): Uint8Array {
    const random = this.#random;
    const value = new Uint8Array(8);
    const view = new DataView(value.buffer);
    if (random.chance(0.7)) {
      view.setUint32(0, this.#index() | (random.chance(0.2) ? 0x100 : 0), true);
    } else view.setBigUint64(0, random.chance(0.5) ? protocolMask : this.#word(), true);
    return value;
  }

  #payload(name: PayloadName): Uint8Array {
    const random = this.#random;
    const sizes = [1, 2, 32, 64, 64, 64, 128, 256, 32768, 65536];
    switch (name) {
      case "u64":
        return this.#u64();
      case "vringState": {
        const num = random.chance(0.5) ? random.below(2) : random.pick(sizes);
        return state(this.#index(), random.chance(0.95) ? num : random.bits());
      }
      case "vringAddr":
        return this.#addresses();
      case "memTable": {
        const count = random.chance(0.7) ? 2 : random.below(9);
        return memTable(Array.from({ length: count }, (_, slot) => this.#region(slot)));
      }
      case "memRegion":
        return memRegion(this.#region(2 + random.below(6)));
      case "config": {
        const size = random.below(257);
        const payload = new Uint8Array(ConfigHeader.size + size);
        const offset = random.chance(0.8) ? random.below(64) : random.bits();
        const claimed = random.chance(0.9) ? size : random.bits();
        ConfigHeader.encode({ offset, size: claimed, flags: random.below(3) }, payload);
        return payload;
      }
      case "log":
        return LogArea.encode({ size: this.#word(), offset: this.#word() });
      case "inflight":
        return Inflight.encode({
          size: this.#word(),
          offset: this.#word(),
          queues: random.below(65536),
          queueSize: random.below(65536),
        });
      default: {
        const { min, max } = payloadSizes[name];
        const payload = new Uint8Array(min + random.below(max - min + 1));
        random.fill(payload);
        return payload;
      }
    }
  }
}
