/** The property that a split queue and its mutations are held to. */
import fc from "fast-check";
import type { QueueClass } from "../core/driver.ts";
import type { Arena } from "./arena.ts";
import { type Scenario, scenario } from "./scenario.ts";
import { SplitWorld } from "./split-world.ts";

export const full = process.env.RINGSIDE_TEST_FULL === "1";

/** Behaves as the model in every scenario. IN_ORDER came with virtio 1.0, big-endian rings went. */
export function behavesAsModel(arena: Arena, Kind: QueueClass, littleEndian = true) {
  return fc.property(scenario, (plan: Scenario) => {
    const inOrder = plan.inOrder && littleEndian;
    new SplitWorld(arena, Kind, { ...plan, inOrder }, littleEndian).play(plan.steps);
  });
}
