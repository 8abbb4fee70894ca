/** The property that queues with an in-flight region are held to, whenever their back-end is killed. */
import fc from "fast-check";
import type { TestGuest } from "../core/guest.ts";
import type { crashable } from "./crash-points.ts";
import { packedSide, splitSide } from "./recovery-side.ts";
import {
  type Kind,
  packedRings,
  type RecoveryPlan,
  RecoveryWorld,
  recoveryPlan,
  splitRings,
} from "./recovery-world.ts";

export const kinds = { split: "SplitQueue", packed: "PackedQueue" } as const;

/** Submits all that was taken and not shown again, in order, and nothing else. */
export function recovers(
  guest: TestGuest,
  kind: Kind,
  Queue: Awaited<ReturnType<typeof crashable>>,
) {
  const rings = kind === "split" ? splitRings : packedRings;
  return fc.property(recoveryPlan(rings), (plan: RecoveryPlan) => {
    const side =
      kind === "split"
        ? splitSide(guest, plan.ring, Queue as Parameters<typeof splitSide>[2])
        : packedSide(guest, plan.ring, Queue as Parameters<typeof packedSide>[2]);
    new RecoveryWorld(guest, kind, side, plan).play();
  });
}
