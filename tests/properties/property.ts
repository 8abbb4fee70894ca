/** The property that a split queue and its mutations are held to. */
import fc from "fast-check";
import type { SplitQueue } from "../../core/split.ts";
import type { Arena } from "./arena.ts";
import { type Scenario, scenario } from "./scenario.ts";
import { World } from "./world.ts";

export const full = process.env.RINGSIDE_TEST_FULL === "1";

/** Behaves as the model in every scenario. */
export function behavesAsModel(arena: Arena, Queue: typeof SplitQueue) {
  return fc.property(scenario, (plan: Scenario) => {
    new World(arena, Queue, plan).play(plan.steps);
  });
}
