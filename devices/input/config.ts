/** The answers of config space to `select` and `subsel` (virtio 1.3, 5.8.4 and 5.8.5.1). */
import type { AxisRange, Description } from "./source.ts";
import { DATA_SIZE, InputConfig, Select } from "./wire.ts";

const { offset } = InputConfig;
const nothing = new Uint8Array(0);

/** A name's bytes, cut where a character ends. */
function textBytes(text: string): Uint8Array {
  const room = new Uint8Array(DATA_SIZE);
  const { written } = new TextEncoder().encodeInto(text, room);
  return room.subarray(0, written);
}

/** Without the zeros at the end, which say nothing. */
function used(bitmap: Uint8Array): Uint8Array {
  let length = Math.min(bitmap.length, DATA_SIZE);
  while (length > 0 && bitmap[length - 1] === 0) length--;
  return bitmap.subarray(0, length);
}

function idBytes({ bus, vendor, product, version }: Description["ids"]): Uint8Array {
  return new Uint8Array(Uint16Array.of(bus, vendor, product, version).buffer);
}

function axisBytes({ minimum, maximum, fuzz, flat, resolution }: AxisRange): Uint8Array {
  return new Uint8Array(Int32Array.of(minimum, maximum, fuzz, flat, resolution).buffer);
}

const keyOf = (select: number, subsel: number): number => (select << 8) | subsel;

/** All questions that have an answer. Any other pair gets size 0. */
function answersOf(description: Description): Map<number, Uint8Array> {
  const { name, serial, ids, properties, codes, axes } = description;
  const answers = new Map<number, Uint8Array>([
    [keyOf(Select.ID_NAME, 0), textBytes(name)],
    [keyOf(Select.ID_SERIAL, 0), textBytes(serial)],
    [keyOf(Select.ID_DEVIDS, 0), idBytes(ids)],
    [keyOf(Select.PROP_BITS, 0), used(properties)],
  ]);
  for (const [type, bitmap] of codes) answers.set(keyOf(Select.EV_BITS, type), used(bitmap));
  for (const [axis, range] of axes) answers.set(keyOf(Select.ABS_INFO, axis), axisBytes(range));
  return answers;
}

/** What one driver has selected, and the answer to it. */
export class ConfigSpace {
  readonly #answers: ReadonlyMap<number, Uint8Array>;
  #select = 0;
  #subsel = 0;

  constructor(description: Description) {
    this.#answers = answersOf(description);
  }

  /**
   * Takes the driver's choice out of what it writes. QEMU writes the whole space for each byte that
   * changed; the rest of it is the device's and stays.
   */
  write(at: number, data: Uint8Array): void {
    const part = (field: number, old: number): number => data[field - at] ?? old;
    this.#select = part(offset.select, this.#select);
    this.#subsel = part(offset.subsel, this.#subsel);
  }

  /** Fills in the space as it is read now. */
  read(config: Uint8Array): void {
    const answer = this.#answers.get(keyOf(this.#select, this.#subsel)) ?? nothing;
    config.fill(0);
    config[offset.select] = this.#select;
    config[offset.subsel] = this.#subsel;
    config[offset.size] = answer.length;
    config.set(answer, offset.data);
  }

  reset(): void {
    this.#select = 0;
    this.#subsel = 0;
  }
}
