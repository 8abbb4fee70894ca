/**
 * When a loop looks for more work instead of sleeping, and how long.
 *
 * A wake-up costs more than a request, so it pays to look around while the next request is near, and
 * only then: for a few times as long as the gaps between requests have been, and not at all when
 * these are longer than the limit. A loop that looks in vain is on a processor that others need, the
 * driver perhaps: it leaves off for a while, and longer each time.
 */

/** The longest look by default: a driver that has to be woken answers sooner (docs/performance.md). */
export const DEFAULT_POLL_US = 50;
/** Gaps that make up the average, roughly. */
const MEMORY = 8;
/** Milliseconds more than several average gaps. */
const SPARE = 0.005;
const GAPS = 8;
/** Looks in vain, one after another, until it is left off. */
const MOST_MISSES = 4;
/** Milliseconds it is left off then: the first time, and at most. */
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 1600;
/** Successes, one after another, that make up for earlier pauses. */
const MANY_HITS = 256;
/** A look takes a microsecond. When the clock is so many milliseconds on, another process ran. */
const STOLEN = 0.4;

export class Polling {
  /** The longest time to look for work, in milliseconds. */
  readonly limit: number;
  /** The average gap between two pieces of work, in milliseconds. Long until it is known. */
  #gap: number;
  #hits = 0;
  #misses = 0;
  #pause = FIRST_PAUSE;
  #pausedUntil = 0;

  constructor(limit: number) {
    this.limit = limit;
    this.#gap = limit * 2;
  }

  /** How long to look, in milliseconds; 0 for not at all. `now` is performance.now(). */
  window(now: number): number {
    if (this.#gap > this.limit || now < this.#pausedUntil) return 0;
    return Math.min(this.limit, GAPS * this.#gap + SPARE);
  }

  /** Work came after a gap, while it was looked for or not. */
  worked(gap: number): void {
    this.#gap += (Math.min(gap, 2 * this.limit) - this.#gap) / MEMORY;
  }

  /** A look found work. */
  hit(): void {
    this.#misses = 0;
    if (++this.#hits === MANY_HITS) this.#pause = FIRST_PAUSE;
  }

  /** A look ended in vain. */
  missed(now: number): void {
    this.#hits = 0;
    if (++this.#misses >= MOST_MISSES) this.#leaveOff(now);
  }

  /** Tells whether a look took so long, in milliseconds, that the processor was somewhere else. */
  stolen(passed: number, now: number): boolean {
    if (passed < STOLEN) return false;
    this.#leaveOff(now);
    return true;
  }

  #leaveOff(now: number): void {
    this.#hits = 0;
    this.#misses = 0;
    this.#pausedUntil = now + this.#pause;
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }
}
