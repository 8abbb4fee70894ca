/** Bursts of ring contents. */
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Random } from "../bad-input/random.ts";
import { RINGS, TABLE_BYTES, TABLES } from "./arena.ts";
import { type Bench, Campaign } from "./campaign.ts";
import { newRingTally, RingBurst } from "./ring-burst.ts";
import type { Variant } from "./target.ts";

const DESCRIPTORS_PER_BURST = 20_000;

export class RingCampaign extends Campaign {
  readonly tally = newRingTally();
  protected override readonly kind = "rings";
  protected override readonly turns: readonly Variant[] = ["blk", "parts", "blk", "rng"].map(
    (device) => ({ device }) as Variant,
  );

  override get amount(): number {
    return this.tally.walked;
  }

  protected override burst(_: number, { target, oracle }: Bench, random: Random): void {
    using burst = new RingBurst({
      target,
      arena: this.arena,
      random,
      queues: oracle.queues,
      descriptors: DESCRIPTORS_PER_BURST,
      tally: this.tally,
    });
    burst.run();
  }

  /** Keeps the rings and their tables as they are now. */
  protected override describe(index: number): string {
    const path = join(tmpdir(), `ringside-fuzz-${this.options.seed}-${index}.rings`);
    writeFileSync(path, this.arena.u8.subarray(0, TABLES + RINGS * TABLE_BYTES));
    return `guest memory from address 0 on is kept in ${path}`;
  }

  override toString(): string {
    const { offered, walked, batches, packed, broken, flipped, stopped, forged, verified } =
      this.tally;
    return (
      `${walked} descriptors walked of ${offered} made available in ${batches} batches, ${packed} of them packed: ` +
      `${broken} broke their ring, ${flipped} changed meanwhile, ${stopped} were cut off, ` +
      `${forged} began with a forged in-flight region; ` +
      `${verified} times another queue was verified`
    );
  }
}
