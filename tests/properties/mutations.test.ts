/** The properties are worth something: they tell the queue from copies with one mistake each. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { SplitQueue } from "../../core/split.ts";
import { Arena } from "./arena.ts";
import { survivesHostileRing } from "./hostile.ts";
import {
  bigEndianMutations,
  mutate,
  mutations,
  type PropertyName,
  removeMutants,
} from "./mutant.ts";
import { behavesAsModel } from "./property.ts";

/** One seed for all, so that a mutation is found today and tomorrow. */
const parameters = { seed: 20261121, numRuns: 3000, endOnFailure: true };

describe("A mutated SplitQueue", () => {
  const arena = new Arena();
  after(() => {
    removeMutants();
    arena[Symbol.dispose]();
  });

  const properties = { model: behavesAsModel, hostile: survivesHostileRing };
  const check = (name: PropertyName, Queue: typeof SplitQueue, runs: number) =>
    fc.check(properties[name](arena, Queue) as fc.IProperty<unknown>, {
      ...parameters,
      numRuns: runs,
    });

  test("passes like the original when nothing is edited", async () => {
    const copy = await mutate("SplitQueue", { name: "nothing", edits: [] });
    assert.notEqual(copy, SplitQueue);
    for (const name of ["model", "hostile"] as const) {
      const { failed, errorInstance } = check(name, copy, 300);
      assert.equal(failed, false, String(errorInstance));
    }
  });

  for (const mutation of mutations) {
    test(`fails when ${mutation.name}`, async () => {
      const Queue = await mutate("SplitQueue", mutation);
      const { failed, numRuns } = check(mutation.breaks, Queue, parameters.numRuns);
      assert.ok(failed, `the mutation survived ${numRuns} runs`);
    });
  }
});

describe("A mutated SplitBigEndianQueue", () => {
  const arena = new Arena();
  after(() => {
    removeMutants();
    arena[Symbol.dispose]();
  });

  for (const mutation of bigEndianMutations) {
    test(`fails when ${mutation.name}`, async () => {
      const Kind = await mutate("SplitBigEndianQueue", mutation);
      const property = mutation.breaks === "model" ? behavesAsModel : survivesHostileRing;
      const checked = property(arena, Kind, false) as fc.IProperty<unknown>;
      assert.ok(fc.check(checked, parameters).failed, "the mutation survived");
    });
  }
});
