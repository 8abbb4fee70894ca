/**
 * Bursts one after another, each with random numbers of its own, so that any of them can be run
 * alone: burst `i` of a seed is always the same.
 */
import { runtime } from "../../ffi/mod.ts";
import { Random } from "../bad-input/random.ts";
import { Arena } from "./arena.ts";
import { Finding } from "./finding.ts";
import { Oracle } from "./oracle.ts";
import { Progress } from "./progress.ts";
import { Target, titleOf, type Variant } from "./target.ts";

/** The seed of a burst. */
const burstSeed = (seed: number, burst: number): number =>
  (Math.imul(seed ^ 0x5bd1e995, 0x9e3779b1) + Math.imul(burst + 1, 0x85ebca6b)) >>> 0;

export interface CampaignOptions {
  readonly seed: number;
  /** The first burst; 0 by default. */
  readonly first?: number;
  /** Ends after so many bursts, or milliseconds, or when so much is done. */
  readonly bursts?: number;
  readonly amount?: number;
  readonly milliseconds?: number;
}

export interface Bench {
  readonly target: Target;
  readonly oracle: Oracle;
}

export abstract class Campaign implements Disposable {
  readonly options: CampaignOptions;
  bursts = 0;
  protected readonly arena = new Arena();
  protected readonly benches = new Map<string, Bench>();

  constructor(options: CampaignOptions) {
    this.options = options;
  }

  /** The option of `replay.ts` that names this kind. */
  protected abstract readonly kind: string;
  /** How much is done. */
  abstract get amount(): number;
  /** Devices take turns. */
  protected abstract readonly turns: readonly Variant[];
  /** Runs one burst. */
  protected abstract burst(index: number, bench: Bench, random: Random): void;
  /** What to say of a burst that found something. */
  protected abstract describe(index: number, variant: Variant): string;

  /** Throws `Finding`, which tells how to have it again. */
  run(): void {
    const { first = 0, bursts = Infinity, amount = Infinity, milliseconds } = this.options;
    const end = performance.now() + (milliseconds ?? Infinity);
    using progress = new Progress();
    while (this.bursts < bursts && this.amount < amount && performance.now() < end) {
      this.#run(first + this.bursts++);
      progress.show(() => `${this.kind}: ${this}, ${this.bursts} bursts`);
    }
  }

  #run(index: number): void {
    const { seed } = this.options;
    const variant = this.turns[index % this.turns.length]!;
    try {
      const bench = this.#bench(variant);
      this.burst(index, bench, new Random(burstSeed(seed, index)));
      bench.oracle.check(index);
    } catch (error) {
      const command = runtime.name === "deno" ? "deno run -A --no-check" : "bun";
      throw new Finding(
        `${(error as Error).message}\n` +
          `seed ${seed}, burst ${index} on ${titleOf(variant)} under ${runtime.name}, ${this}; ` +
          `${this.describe(index, variant)}\n` +
          `the last words of the log:\n${this.benches.get(titleOf(variant))?.target.lastWords()}\n` +
          `replay: ${command} tests/fuzz/replay.ts --${this.kind} --seed=${seed} --only=${index}`,
        { cause: error },
      );
    }
  }

  #bench(variant: Variant): Bench {
    let bench = this.benches.get(titleOf(variant));
    if (bench === undefined) {
      const target = new Target(variant);
      try {
        bench = { target, oracle: new Oracle(target, this.arena) };
      } catch (error) {
        target.stop();
        throw error;
      }
      this.benches.set(titleOf(variant), bench);
    }
    return bench;
  }

  [Symbol.dispose](): void {
    for (const { target } of this.benches.values()) target.stop();
    this.arena[Symbol.dispose]();
  }
}
