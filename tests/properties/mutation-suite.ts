/** Properties are worth something when they tell a queue from copies with one mistake each. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { Arena } from "./arena.ts";
import { type Mutation, mutate, type PropertyName, type Queues, removeMutants } from "./mutant.ts";

/** One seed for all, so that a mutation is found today and tomorrow. */
const parameters = { seed: 20261121, numRuns: 3000, endOnFailure: true };

export interface MutationSuite<Q extends keyof Queues> {
  readonly queue: Q;
  readonly original: Queues[Q];
  readonly mutations: readonly Mutation[];
  /** What the queue is held to. */
  readonly properties: Readonly<
    Record<PropertyName, (arena: Arena, Queue: Queues[Q]) => fc.IProperty<unknown>>
  >;
}

/** Tests that each mutation of a queue fails the property that it breaks, and an equal copy none. */
export function testMutations<Q extends keyof Queues>(suite: MutationSuite<Q>): void {
  const { queue, original, mutations, properties } = suite;
  describe(`A mutated ${queue}`, () => {
    const arena = new Arena();
    after(() => {
      removeMutants();
      arena[Symbol.dispose]();
    });

    test("passes like the original when nothing is edited", async () => {
      const copy = await mutate(queue, { name: "nothing", edits: [] });
      assert.notEqual(copy, original);
      for (const property of Object.values(properties)) {
        const { failed, errorInstance } = fc.check(property(arena, copy), {
          ...parameters,
          numRuns: 300,
        });
        assert.equal(failed, false, String(errorInstance));
      }
    });

    for (const mutation of mutations) {
      test(`fails when ${mutation.name}`, async () => {
        const Queue = await mutate(queue, mutation);
        const { failed, numRuns } = fc.check(properties[mutation.breaks](arena, Queue), parameters);
        assert.ok(failed, `the mutation survived ${numRuns} runs`);
      });
    }
  });
}
