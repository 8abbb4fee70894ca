/** Ways to spoil a message. */
import { payloadSizes } from "../../core/payloads.ts";
import { Flag } from "../../core/protocol.ts";
import type { Random } from "../bad-input/random.ts";
import { Objects } from "./objects.ts";
import type { Draft } from "./wire.ts";

type Mutation = (random: Random, draft: Draft, objects: Objects) => Partial<Draft>;

const HEADER = 12;

/** More descriptors than any message carries, and than the kernel passes at once. */
function extraFds(random: Random, { fds }: Draft, objects: Objects): Partial<Draft> {
  const count = random.chance(0.9) ? 1 + random.below(9) : 64 + random.below(190);
  const kind = random.pick(Objects.kinds.filter((name) => !/pipe|state|socket|channel/.test(name)));
  return { fds: [...fds, ...Array.from({ length: count }, () => objects.get(kind))].slice(0, 253) };
}

const survivable: readonly Mutation[] = [
  extraFds,
  (_, { fds }) => ({ fds: fds.slice(1) }),
  (_random, { fds }) => ({ fds: fds.slice(0, -1) }),
  (random, { fds }, objects) => ({ fds: fds.map(() => objects.get(random.pick(Objects.kinds))) }),
  (random, { payload }) => ({ payload: flipped(random, payload) }),
  (random, { payload }) => ({ payload: flipped(random, flipped(random, payload)) }),
  (random, { payload }) => {
    const noise = payload.slice();
    random.fill(noise);
    return { payload: noise };
  },
  (_, { flags }) => ({ flags: flags | Flag.NEED_REPLY }),
  (random, draft) => ({ cuts: cutsOf(random, draft) }),
  (random, draft) => ({ cuts: cutsOf(random, draft) }),
  (random) => {
    const code = random.pick([0, 46, 47, 64, 100, 255, 1000, 0x7fffffff, 0xffffffff]);
    return { code, name: "(unknown)", row: undefined };
  },
  resized,
];

/** These end the connection. */
const fatal: readonly Mutation[] = [
  (random, { flags }) => ({ flags: (flags & ~3) | random.pick([0, 2, 3]) }),
  (_, { flags }) => ({ flags: flags | Flag.REPLY }),
  (_, { flags }) => ({ flags: flags & ~Flag.NEED_REPLY, fds: [] }),
  (random, { payload }) => {
    const length = payload.length + random.pick([-1, 1, 8, 2000]);
    const longer = new Uint8Array(Math.max(0, length));
    longer.set(payload.subarray(0, longer.length));
    return { payload: longer, size: longer.length };
  },
  (random, { payload }) => ({
    size: random.pick([0xffffffff, 0x80000000, payload.length + 4096]),
  }),
  (random, draft) => ({ truncate: 1 + random.below(HEADER + draft.payload.length) }),
  (random, draft) => {
    const cuts = [random.below(HEADER) + 1];
    return draft.payload.length > 0 ? { cuts, carrier: 1 } : { cuts };
  },
];

/** Cuts a payload to another size that its row allows. */
function resized(random: Random, { row, payload }: Draft): Partial<Draft> {
  if (row === undefined) return {};
  const { min, max } = payloadSizes[row.payload];
  const other = new Uint8Array(min + random.below(max - min + 1));
  other.set(payload.subarray(0, other.length));
  return { payload: other, size: other.length };
}

function flipped(random: Random, payload: Uint8Array): Uint8Array {
  const copy = payload.slice();
  if (copy.length > 0) copy[random.below(copy.length)]! ^= 1 << random.below(8);
  return copy;
}

function cutsOf(random: Random, { payload }: Draft): number[] {
  const length = HEADER + payload.length;
  if (random.chance(0.2)) return Array.from({ length: length - 1 }, (_, i) => i + 1);
  const cuts = Array.from({ length: 1 + random.below(4) }, () => 1 + random.below(length - 1));
  return [...new Set(cuts)].sort((a, b) => a - b);
}

export function mutate(random: Random, draft: Draft, objects: Objects): Draft {
  const from = random.chance(0.85) ? survivable : fatal;
  return { ...draft, ...random.pick(from)(random, draft, objects) };
}
