/** Random scenarios for a virtqueue: what the driver and the device do, and in which order. */
import fc from "fast-check";

export interface BufferPlan {
  readonly length: number;
  readonly writable: boolean;
  /** Which part of guest memory it comes from. */
  readonly place: number;
}

export interface ChainPlan {
  readonly buffers: readonly BufferPlan[];
  /** Buffers with a descriptor of their own; the rest goes into an indirect table. */
  readonly direct: number;
  readonly tablePlace: number;
}

export type DriverAct =
  /** Make chains available, all of them with one update of the index. */
  | { readonly act: "offer"; readonly chains: readonly ChainPlan[] }
  /** Ask for a notification `ahead` of the last completion seen, or with odd `ahead` for none. */
  | { readonly act: "listen"; readonly ahead: number }
  /** Take completions. */
  | { readonly act: "reap" };

export type DeviceAct =
  | { readonly act: "take" | "putBack" | "publish" | "suppress" | "requestKick" }
  /** Complete chain number `which` of those in flight. */
  | { readonly act: "complete"; readonly which: number; readonly written: number }
  /** Try to complete a chain that is not in flight. */
  | { readonly act: "completeTwice"; readonly which: number };

/** Something the driver does in the middle of what the device does. */
export interface Interference {
  readonly point: number;
  readonly driver: DriverAct;
}

export interface Step {
  readonly device?: DeviceAct;
  readonly driver?: DriverAct;
  readonly during?: readonly Interference[];
}

export interface Scenario {
  readonly size: number;
  readonly base: number;
  readonly used: number;
  readonly eventIdx: boolean;
  readonly inOrder: boolean;
  readonly notifyOnEmpty: boolean;
  /** Mixes up the free descriptors. */
  readonly shuffle: number;
  readonly steps: readonly Step[];
}

/** Indices near both ends of 16 bits, and anything else. */
const index = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 0xfff0, max: 0xffff }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 3 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff }) },
);

const length = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 64 }) },
  { weight: 1, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.integer({ min: 65, max: 5000 }) },
);

const place = fc.nat({ max: 7 });

const chain: fc.Arbitrary<ChainPlan> = fc
  .record({
    readable: fc.array(fc.record({ length, place }), { maxLength: 4, size: "max" }),
    writable: fc.array(fc.record({ length, place }), { maxLength: 4, size: "max" }),
    direct: fc.oneof(fc.constant(99), fc.nat({ max: 4 })),
    tablePlace: place,
  })
  .map(({ readable, writable, direct, tablePlace }) => {
    const buffers = [
      ...readable.map((buffer) => ({ ...buffer, writable: false })),
      ...writable.map((buffer) => ({ ...buffer, writable: true })),
    ];
    if (buffers.length === 0) buffers.push({ length: 1, place: 0, writable: true });
    return { buffers, direct: Math.min(direct, buffers.length), tablePlace };
  });

const offer = fc.record({
  act: fc.constant("offer" as const),
  chains: fc.array(chain, { minLength: 1, maxLength: 3 }),
});

const driver: fc.Arbitrary<DriverAct> = fc.oneof(
  { weight: 4, arbitrary: offer },
  {
    weight: 2,
    arbitrary: fc.record({
      act: fc.constant("listen" as const),
      ahead: fc.oneof(fc.integer({ min: -3, max: 5 }), fc.integer({ min: -40000, max: 40000 })),
    }),
  },
  { weight: 2, arbitrary: fc.record({ act: fc.constant("reap" as const) }) },
);

const simple = (act: "take" | "putBack" | "publish" | "suppress" | "requestKick") =>
  fc.constant({ act } as const);

const device: fc.Arbitrary<DeviceAct> = fc.oneof(
  { weight: 6, arbitrary: simple("take") },
  { weight: 1, arbitrary: simple("putBack") },
  { weight: 3, arbitrary: simple("publish") },
  { weight: 1, arbitrary: simple("suppress") },
  { weight: 2, arbitrary: simple("requestKick") },
  {
    weight: 5,
    arbitrary: fc.record({
      act: fc.constant("complete" as const),
      which: fc.nat({ max: 1000 }),
      written: fc.nat({ max: 6000 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      act: fc.constant("completeTwice" as const),
      which: fc.nat({ max: 1000 }),
    }),
  },
);

const interference = fc.record({ point: fc.nat({ max: 3 }), driver });

export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ driver }) },
  {
    weight: 3,
    arbitrary: fc.record({
      device,
      during: fc.oneof(
        { weight: 2, arbitrary: fc.constant([]) },
        { weight: 1, arbitrary: fc.array(interference, { minLength: 1, maxLength: 2 }) },
      ),
    }),
  },
);

/** Small rings mostly: they fill and wrap within a few steps. */
const size = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 4 }) },
  { weight: 1, arbitrary: fc.integer({ min: 5, max: 10 }) },
);

export const scenario: fc.Arbitrary<Scenario> = fc.record({
  size: size.map((exponent) => 2 ** exponent),
  base: index,
  used: index,
  eventIdx: fc.boolean(),
  inOrder: fc.boolean(),
  notifyOnEmpty: fc.oneof({ weight: 4, arbitrary: fc.constant(false) }, fc.boolean()),
  shuffle: fc.nat({ max: 1000 }),
  steps: fc.array(step, { minLength: 1, maxLength: 80, size: "max" }),
});
