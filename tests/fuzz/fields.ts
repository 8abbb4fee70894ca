/**
 * Payloads made of the protocol's layouts. A field's value follows from its name and width, so that a
 * payload that is added to core/payloads.ts is covered without an edit here.
 */
import type { Layout } from "../../core/layout.ts";
import * as payloads from "../../core/payloads.ts";
import { type PayloadName, payloadSizes } from "../../core/payloads.ts";
import { MEMORY_SIZE, REGION_SIZE, user } from "../bad-input/guest.ts";
import type { Random } from "../bad-input/random.ts";

/** Payloads whose layout goes by another name, or that begin with one. */
const named: Partial<Record<PayloadName, Layout<any>>> = {
  log: payloads.LogArea,
  optionalU64: payloads.U64,
  optionalUuid: payloads.Uuid,
  memRegion: payloads.SingleRegion,
  config: payloads.ConfigHeader,
};

/** The layout of a payload by its name, as `Iotlb` of `iotlb`. */
export function layoutOf(name: PayloadName): Layout<any> | undefined {
  const own = (payloads as unknown as Record<string, Layout<any> | undefined>)[
    name[0]!.toUpperCase() + name.slice(1)
  ];
  return named[name] ?? (own?.offset === undefined ? undefined : own);
}

const wide = [
  0n,
  1n,
  2n,
  63n,
  4095n,
  4096n,
  65535n,
  65536n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 4096n,
  2n ** 64n - 1n,
];

/** Any number at all, the dangerous ones more often. */
export function wildWord(random: Random): bigint {
  if (random.chance(0.5)) return random.pick(wide);
  return (BigInt(random.bits()) << 32n) | BigInt(random.bits());
}

const sizes = [1, 2, 8, 16, 32, 64, 128, 256, 1024];

/** What a field is likely to hold when a front-end is in its right mind. */
function likely(random: Random, field: string): bigint {
  const page = BigInt(4096 * random.below(64));
  switch (field) {
    case "index":
      return BigInt(random.chance(0.9) ? random.below(4) : random.below(300));
    case "num":
      return BigInt(random.chance(0.5) ? random.below(2) : random.pick(sizes));
    case "queueSize":
      return BigInt(random.pick(sizes));
    case "queues":
      return BigInt(1 + random.below(4));
    case "guestAddress":
    case "iova":
      return BigInt(random.below(2) * REGION_SIZE) + page;
    case "userAddress":
      return BigInt(user(random.below(2) * REGION_SIZE)) + page;
    case "size":
    case "length":
      return BigInt(4096 * (1 + random.below(random.chance(0.8) ? 64 : MEMORY_SIZE / 4096)));
    case "mmapOffset":
    case "offset":
      return random.chance(0.7) ? 0n : page;
    case "count":
      return BigInt(random.below(4));
    case "operation":
      return BigInt(random.pick([0x002, 0x102, 0x202, 0x302, 0x404, 0x3]));
    case "padding":
    case "flags":
      return BigInt(random.below(2));
    case "phase":
      return BigInt(random.chance(0.8) ? 0 : random.below(4));
    case "permission":
    case "type":
      return BigInt(1 + random.below(5));
    default:
      // A direction, a phase, an id.
      return BigInt(random.below(random.chance(0.7) ? 2 : 16));
  }
}

/** Writes one field of `size` bytes. */
function writeField(view: DataView, at: number, size: number, value: bigint): void {
  if (size === 1) view.setUint8(at, Number(value & 0xffn));
  else if (size === 2) view.setUint16(at, Number(value & 0xffffn), true);
  else if (size === 4) view.setUint32(at, Number(value & 0xffffffffn), true);
  else if (size === 8) view.setBigUint64(at, value, true);
}

/** A payload by the names of its fields; each is `wild` with this probability. */
export function likelyPayload(random: Random, name: PayloadName, wild: number): Uint8Array {
  const { min, max } = payloadSizes[name];
  const layout = layoutOf(name);
  const length = random.chance(0.9) ? max : min + random.below(max - min + 1);
  const payload = new Uint8Array(length);
  if (layout === undefined) {
    random.fill(payload);
    return payload;
  }
  const view = new DataView(payload.buffer);
  const fields = Object.entries(layout.offset as Readonly<Record<string, number>>);
  fields.forEach(([field, at], i) => {
    const size = (fields[i + 1]?.[1] ?? layout.size) - at;
    if (at + size > length) return;
    const value = random.chance(wild) ? wildWord(random) : likely(random, field);
    if (size <= 8) writeField(view, at, size, value);
    else if (random.chance(0.5)) scatter(random, payload.subarray(at, at + size));
  });
  return payload;
}

/** Small numbers here and there, which keep most of what they mean for lengths and types. */
function scatter(random: Random, bytes: Uint8Array): void {
  const words = Math.min(8, bytes.length >> 2);
  for (let i = 0; i < words; i++) bytes[i * 4] = random.below(70);
}
