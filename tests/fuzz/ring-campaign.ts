/** Bursts of ring contents. */
import type { Random } from "../bad-input/random.ts";
import { type Bench, Campaign } from "./campaign.ts";
import { newRingTally, RingBurst } from "./ring-burst.ts";
import type { TargetName } from "./target.ts";

const DESCRIPTORS_PER_BURST = 20_000;

export class RingCampaign extends Campaign {
  readonly tally = newRingTally();
  protected override readonly kind = "rings";
  protected override readonly turns: readonly TargetName[] = ["blk", "parts", "blk", "rng"];

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

  protected override describe(): string {
    return "see the log";
  }

  override toString(): string {
    const { offered, walked, batches, packed, broken, flipped, stopped, verified } = this.tally;
    return (
      `${walked} descriptors walked of ${offered} made available in ${batches} batches, ${packed} of them packed: ` +
      `${broken} broke their ring, ${flipped} changed meanwhile, ${stopped} were cut off; ` +
      `${verified} times another queue was verified`
    );
  }
}
