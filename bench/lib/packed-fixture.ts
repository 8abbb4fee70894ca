/**
 * The same batch of requests as `RingFixture` on a packed ring that it fills: each batch is one lap.
 * Making it available again costs a copy of the ring, as a driver has to write its descriptors anew.
 */
import { PackedQueue } from "../../core/packed.ts";
import {
  BATCH,
  CHAIN_LENGTH,
  DESCRIPTORS,
  draining,
  queueOptions,
  RingFixture,
} from "./ring-fixture.ts";

const AVAIL = 1 << 7;
const USED = 1 << 15;
/** Flags of descriptors (virtio 1.3, 2.8.6 and 2.8.7). */
const NEXT = 1;
const INDIRECT = 4;

export class PackedFixture implements Disposable {
  readonly #split: RingFixture;
  readonly #size: number;
  readonly #ring: Int32Array<ArrayBuffer>;
  /** The ring as the driver fills it in laps with wrap counter 1 and 0. */
  readonly #laps: readonly [Int32Array, Int32Array];
  #lap = 0;

  constructor({ indirect }: { readonly indirect: boolean }) {
    this.#split = new RingFixture({ indirect });
    this.#size = indirect ? BATCH : BATCH * CHAIN_LENGTH;
    const { data } = this.#split.memory.find(0)!;
    this.#ring = new Int32Array(data.buffer, data.byteOffset + DESCRIPTORS, 4 * this.#size);
    this.#laps = [this.#fill(AVAIL), this.#fill(USED)];
    if (indirect) this.#convertTables(data);
    this.#ring.fill(0);
  }

  #fill(owner: number): Int32Array {
    const words = this.#ring.slice();
    for (let slot = 0; slot < this.#size; slot++) {
      const at = 4 * slot + 3;
      const id = Math.floor(slot / (this.#size / BATCH));
      words[at] = id | (((words[at]! & 0xffff) | owner) << 16);
    }
    return words;
  }

  /** Flags are where the next fields are in tables of split rings, and only WRITE counts. */
  #convertTables(data: DataView<ArrayBuffer>): void {
    for (let slot = 0; slot < this.#size; slot++) {
      const table = this.#ring[4 * slot]!;
      for (let at = table + 12; at < table + 16 * CHAIN_LENGTH; at += 16) {
        data.setUint32(at, (data.getUint16(at, true) & ~(NEXT | INDIRECT)) << 16, true);
      }
    }
  }

  makeQueue(onCall: () => void): PackedQueue {
    const { memory, addresses } = this.#split;
    const place = { size: this.#size, memory, addresses, base: 0x80008000 };
    return draining(new PackedQueue(queueOptions(place, onCall)));
  }

  /** Makes a whole batch available. */
  offer(): void {
    this.#ring.set(this.#laps[this.#lap & 1]!);
    this.#lap ^= 1;
  }

  [Symbol.dispose](): void {
    this.#split[Symbol.dispose]();
  }
}
