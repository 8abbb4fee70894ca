/**
 * Bursts one after another, each with random numbers of its own, so that any of them can be run
 * alone: burst `i` of a seed is always the same.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { handlers } from "../../core/handlers/mod.ts";
import type { MessageRow } from "../../core/protocol.ts";
import { runtime } from "../../ffi/mod.ts";
import { Random } from "../bad-input/random.ts";
import { Arena } from "./arena.ts";
import { Finding } from "./finding.ts";
import { runMessages } from "./message-burst.ts";
import { rows } from "./message-maker.ts";
import { Oracle } from "./oracle.ts";
import { Progress } from "./progress.ts";
import { Tally } from "./tally.ts";
import { Target, type TargetName } from "./target.ts";
import { saveTrace, Trace } from "./trace.ts";

/** Devices take turns; their number has no divisor in common with that of the rows. */
const turns: readonly TargetName[] = ["parts", "parts", "blk", "parts", "rng", "parts", "blk"];

/** The seed of a burst. */
export const burstSeed = (seed: number, burst: number): number =>
  (Math.imul(seed ^ 0x5bd1e995, 0x9e3779b1) + Math.imul(burst + 1, 0x85ebca6b)) >>> 0;

export interface CampaignOptions {
  readonly seed: number;
  /** The first burst; 0 by default. */
  readonly first?: number;
  /** Ends after so many bursts, messages or milliseconds. */
  readonly bursts?: number;
  readonly messages?: number;
  readonly milliseconds?: number;
}

interface Bench {
  readonly target: Target;
  readonly oracle: Oracle;
}

const MESSAGES_PER_BURST = 500;
const TRACE_TAIL = 12;

export class MessageCampaign implements Disposable {
  readonly options: CampaignOptions;
  readonly tally = new Tally();
  bursts = 0;
  readonly #arena = new Arena();
  readonly #benches = new Map<TargetName, Bench>();

  constructor(options: CampaignOptions) {
    this.options = options;
  }

  /** Throws `Finding`, which tells how to have it again. */
  run(): void {
    const { first = 0, bursts = Infinity, messages = Infinity, milliseconds } = this.options;
    const end = performance.now() + (milliseconds ?? Infinity);
    using progress = new Progress();
    while (this.bursts < bursts && this.tally.sent < messages && performance.now() < end) {
      this.#burst(first + this.bursts++);
      progress.show(() => `messages: ${this.tally}, ${this.bursts} bursts`);
    }
  }

  /** Tells whether some back-end here implements a row: it has a handler, and what it needs is offered. */
  implements({ code, needs }: MessageRow): boolean {
    if (handlers[code] === undefined) return false;
    const offers = [...this.#benches.values()].map(({ oracle }) => oracle.offered);
    return needs === undefined || offers.some((bits) => ((bits >> BigInt(needs)) & 1n) === 1n);
  }

  #bench(name: TargetName): Bench {
    let bench = this.#benches.get(name);
    if (bench === undefined) {
      const target = new Target(name);
      bench = { target, oracle: new Oracle(target, this.#arena) };
      this.#benches.set(name, bench);
    }
    return bench;
  }

  #burst(burst: number): void {
    const { seed } = this.options;
    const name = turns[burst % turns.length]!;
    const { target, oracle } = this.#bench(name);
    const trace = new Trace();
    const before = this.tally.sent;
    try {
      runMessages({
        target,
        arena: this.#arena,
        random: new Random(burstSeed(seed, burst)),
        focus: rows[burst % rows.length]!,
        queues: oracle.queues,
        messages: MESSAGES_PER_BURST,
        tally: this.tally,
        trace,
      });
      oracle.check(burst);
    } catch (error) {
      const path = join(tmpdir(), `ringside-fuzz-${seed}-${burst}.json`);
      saveTrace(path, { target: name, options: [], batches: trace.batches });
      const at = this.tally.sent - before;
      throw new Finding(
        `${(error as Error).message}\n` +
          `seed ${seed}, burst ${burst} on ${name}, about message ${at} of it, ` +
          `${this.tally.sent} in all, under ${runtime.name}; the last messages:\n` +
          `${trace.tail(TRACE_TAIL)}\n` +
          `replay: ${runtime.name} ${runtime.name === "deno" ? "run -A --no-check " : ""}` +
          `tests/fuzz/replay.ts --messages --seed=${seed} --only=${burst}\n` +
          `or: tests/fuzz/replay.ts --trace=${path} [--minimize]`,
        { cause: error },
      );
    }
  }

  [Symbol.dispose](): void {
    for (const { target } of this.#benches.values()) target.stop();
    this.#arena[Symbol.dispose]();
  }
}
