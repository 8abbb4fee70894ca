/**
 * One burst of ring contents in one session. One queue is left in peace: it must be served whatever
 * happens to the others.
 */
import { mask, RingFeature, VhostFeature } from "../../core/features.ts";
import { acknowledge, type Fd } from "../../ffi/mod.ts";
import { PollSet } from "../../frontend/mod.ts";
import type { Random } from "../bad-input/random.ts";
import type { Ring } from "../bad-input/ring.ts";
import type { Arena } from "./arena.ts";
import { Buffers } from "./buffers.ts";
import { Finding } from "./finding.ts";
import { PackedFuzzer } from "./packed-fuzzer.ts";
import { Records } from "./records.ts";
import type { RingFuzzer } from "./ring-fuzzer.ts";
import { Session } from "./session.ts";
import { SplitFuzzer } from "./split-fuzzer.ts";
import type { Target } from "./target.ts";

/** How long a batch may take, in milliseconds. */
const BATCH_LIMIT = 15_000;
/** And one of which nobody can tell how it must end. */
const FAULTY_LIMIT = 3;
const FLIPS = 400;
const base = mask(RingFeature.VERSION_1, VhostFeature.PROTOCOL_FEATURES);

/** What became of the rings. */
export interface RingTally {
  offered: number;
  walked: number;
  batches: number;
  /** Batches on packed rings. */
  packed: number;
  broken: number;
  flipped: number;
  stopped: number;
  /** Rings started with a forged in-flight region. */
  forged: number;
  verified: number;
}

export const newRingTally = (): RingTally => ({
  offered: 0,
  walked: 0,
  batches: 0,
  packed: 0,
  broken: 0,
  flipped: 0,
  stopped: 0,
  forged: 0,
  verified: 0,
});

export interface RingBurstOptions {
  readonly target: Target;
  readonly arena: Arena;
  readonly random: Random;
  readonly queues: number;
  /** Descriptors to make available. */
  readonly descriptors: number;
  readonly tally: RingTally;
}

const polls = new PollSet(2);

/** Waits for the end of a batch. */
function finish(fuzzer: RingFuzzer): "whole" | "broken" | "unknown" {
  const { ring, strict } = fuzzer;
  const until = performance.now() + (strict ? BATCH_LIMIT : FAULTY_LIMIT);
  for (;;) {
    if (fuzzer.done) return "whole";
    polls.clear();
    polls.add(ring.errFd.number);
    polls.add(ring.callFd.number);
    if (polls.wait(1) > 0) {
      if (polls.ready(0)) return "broken";
      drain(ring.callFd);
    }
    if (performance.now() < until) continue;
    if (!strict) return "unknown";
    throw new Finding(
      `Ring ${ring.index} of ${ring.size} neither completes a batch nor breaks` +
        (ring.packed ? "" : `: available ${ring.availableIndex}, used ${ring.usedIndex}`),
    );
  }
}

function drain(eventfd: Fd): void {
  acknowledge(eventfd.number);
}

export class RingBurst implements Disposable {
  readonly #options: RingBurstOptions;
  readonly #session: Session;
  readonly #records: Records;
  /** The queue in peace, where the device has more than one. */
  readonly #quiet: Ring | null;
  readonly #fuzzers: RingFuzzer[];

  constructor(options: RingBurstOptions) {
    const { target, arena, random, queues } = options;
    this.#options = options;
    const indirect = random.chance(0.85);
    const features = [
      ...(indirect ? [RingFeature.INDIRECT_DESC] : []),
      ...(random.chance(0.6) ? [RingFeature.EVENT_IDX] : []),
      ...(random.chance(0.4) ? [RingFeature.RING_PACKED] : []),
      ...(random.chance(0.3) ? [RingFeature.IN_ORDER] : []),
      ...(random.chance(0.3) ? [VhostFeature.LOG_ALL] : []),
    ];
    const rings = Math.min(queues, 3);
    const size = random.pick([4, 4, 16, 64, 256, 256, 256, 512, 1024, 1024]);
    arena.clear();
    let records: Records | null = null;
    this.#session = new Session(target.socket, arena, {
      rings,
      size,
      features: base | mask(...features),
      prepare: (session) => {
        records = new Records(session, random, rings, size);
      },
    });
    this.#records = records!;
    this.#quiet = rings > 1 ? this.#session.rings[0]! : null;
    const buffers = new Buffers(random, arena);
    this.#fuzzers = this.#session.rings.slice(rings > 1 ? 1 : 0).map((ring) => {
      const Kind = ring.packed ? PackedFuzzer : SplitFuzzer;
      return new Kind({ arena, ring, random, buffers, indirect });
    });
    for (const fuzzer of this.#fuzzers) this.#recover(fuzzer);
  }

  run(): void {
    const { descriptors, random } = this.#options;
    for (let offered = 0; offered < descriptors; ) {
      for (const fuzzer of this.#fuzzers) {
        fuzzer.fill();
        fuzzer.ring.kick();
      }
      if (random.chance(0.15)) this.#flip();
      for (const fuzzer of this.#fuzzers) this.#end(fuzzer);
      offered = this.#fuzzers.reduce((sum, fuzzer) => sum + fuzzer.offered, 0);
      if (random.chance(0.02)) this.#verify();
    }
    this.#verify();
  }

  /** Counts what was done, in the burst's tally. */
  [Symbol.dispose](): void {
    const { tally } = this.#options;
    for (const { offered, walked } of this.#fuzzers) {
      tally.offered += offered;
      tally.walked += walked;
    }
    this.#session[Symbol.dispose]();
  }

  #flip(): void {
    const { random, tally } = this.#options;
    tally.flipped++;
    for (let i = 0; i < FLIPS; i++) random.pick(this.#fuzzers).flip();
    for (const fuzzer of this.#fuzzers) {
      fuzzer.restore();
      fuzzer.ring.kick();
    }
  }

  #end(fuzzer: RingFuzzer): void {
    const { random, tally } = this.#options;
    const { ring } = fuzzer;
    tally.batches++;
    if (ring.packed) tally.packed++;
    if (random.chance(0.01)) {
      tally.stopped++;
      this.#recover(fuzzer);
      return;
    }
    const end = finish(fuzzer);
    if (end === "whole" && fuzzer.strict) return fuzzer.settle(null);
    if (end === "broken") tally.broken++;
    if (random.chance(0.1)) this.#verify();
    fuzzer.settle(this.#recover(fuzzer));
  }

  /** The way back for a broken ring, and for one that is stopped while it works. */
  #recover(fuzzer: RingFuzzer): number {
    const { ring } = fuzzer;
    const stopped = this.#session.stop(ring);
    drain(ring.callFd);
    if (this.#records.tracks) {
      if (this.#options.random.chance(0.1)) this.#replayAnything(fuzzer);
      this.#records.forget(ring.index);
    }
    const base = fuzzer.randomBase();
    this.#session.start(ring, base, () => fuzzer.begin(base));
    return stopped;
  }

  /** Starts a ring with requests in flight that nobody knows. It may break, or serve them. */
  #replayAnything(fuzzer: RingFuzzer): void {
    const { ring } = fuzzer;
    this.#options.tally.forged++;
    this.#records.forge(ring.index);
    const base = fuzzer.randomBase();
    try {
      this.#session.start(ring, base, () => fuzzer.begin(base));
    } catch (error) {
      // Refusing to start is right as well.
      if (!/answered "refused"/.test((error as Error).message)) throw error;
    }
    this.#session.stop(ring);
    drain(ring.callFd);
  }

  #verify(): void {
    if (this.#quiet === null) return;
    const { target, tally } = this.#options;
    this.#session.verify(target.variant.device, this.#quiet, tally.batches);
    tally.verified++;
  }
}
