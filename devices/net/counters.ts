/** What a port has carried and lost. Directions are the guest's: it transmits, and receives. */

/** Places in a port's counters. */
export const Counter = {
  TX_FRAMES: 0,
  TX_BYTES: 1,
  /** The host side did not take it. */
  TX_DROPPED: 2,
  /** The header or the frame was wrong. */
  TX_INVALID: 3,
  RX_FRAMES: 4,
  RX_BYTES: 5,
  /** The guest had no buffers for it. */
  RX_DROPPED: 6,
  /** It is not for this guest: too long, or filtered, or with an offload that the guest does not know. */
  RX_FILTERED: 7,
} as const;

const COUNT = 8;
const names = [
  "txFrames",
  "txBytes",
  "txDropped",
  "txInvalid",
  "rxFrames",
  "rxBytes",
  "rxDropped",
  "rxFiltered",
] as const;

/** Doubles: exact up to 2^53, and plain stores. */
export type Counters = Float64Array<ArrayBuffer>;

export const newCounters = (): Counters => new Float64Array(COUNT);

/** By name, for the log. */
export function describeCounters(counters: Counters): Record<(typeof names)[number], number> {
  return Object.fromEntries(names.map((name, i) => [name, counters[i]])) as Record<
    (typeof names)[number],
    number
  >;
}
