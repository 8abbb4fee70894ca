/** Latencies in buckets that grow with them: 1.6 % wide at most, no allocation per value. */

/** Buckets per power of two. */
const STEPS = 64;
const STEP_BITS = 6;
/** Values from 2^42 ns, more than an hour, on share the last bucket. */
const POWERS = 43;

export class Histogram {
  readonly #counts = new Uint32Array(POWERS * STEPS);
  count = 0;
  #sum = 0;
  #max = 0;

  /** Adds a duration in milliseconds. */
  record(milliseconds: number): void {
    const ns = Math.max(0, milliseconds * 1e6);
    this.count++;
    this.#sum += ns;
    if (ns > this.#max) this.#max = ns;
    this.#counts[bucketOf(ns)]!++;
  }

  /** The mean in microseconds. */
  get mean(): number {
    return this.count === 0 ? 0 : this.#sum / this.count / 1000;
  }

  /** The largest value in microseconds. */
  get max(): number {
    return this.#max / 1000;
  }

  /** The value in microseconds that `percent` of all values do not exceed. */
  percentile(percent: number): number {
    let left = Math.ceil((this.count * percent) / 100);
    if (left === 0) return 0;
    for (let i = 0; i < this.#counts.length; i++) {
      left -= this.#counts[i]!;
      if (left <= 0) return Math.min(upperEdge(i), this.#max) / 1000;
    }
    return this.max;
  }
}

function bucketOf(ns: number): number {
  if (ns < STEPS) return ns | 0;
  const power = Math.min(POWERS + STEP_BITS - 1, Math.floor(Math.log2(ns)));
  const step = Math.min(STEPS - 1, Math.floor(ns / 2 ** (power - STEP_BITS)) - STEPS);
  return Math.min(POWERS * STEPS - 1, (power - STEP_BITS + 1) * STEPS + step);
}

function upperEdge(bucket: number): number {
  if (bucket < STEPS) return bucket + 1;
  const power = Math.floor(bucket / STEPS) - 1;
  return (STEPS + (bucket % STEPS) + 1) * 2 ** power;
}
