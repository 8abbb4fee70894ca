/** Random use of virtqueues whose back-ends are killed between any two of their stores. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { TestGuest } from "../core/guest.ts";
import { crashable, crashedAt, points } from "./crash-points.ts";
import { removeMutants } from "./mutant.ts";
import { full } from "./property.ts";
import { kinds, recovers } from "./recovery.ts";
import { type Kind, tally } from "./recovery-world.ts";

describe("A virtqueue with an in-flight region", () => {
  const guest = new TestGuest([{ guestAddress: 0, size: 0x10000, at: 0 }]);
  after(() => {
    removeMutants();
    guest[Symbol.dispose]();
  });

  for (const kind of ["split", "packed"] as Kind[]) {
    test(`submits what was in flight again and nothing else: ${kind}`, async () => {
      const Queue = await crashable(kinds[kind]);
      // Few runs reach the rarest points for sure only with a seed that is known to.
      const parameters = full ? { numRuns: 20_000 } : { numRuns: 1500, seed: 20261122 };
      fc.assert(recovers(guest, kind, Queue), parameters);
      const { numRuns } = parameters;
      assert.ok(tally.crashes > numRuns && tally.replayed > numRuns, JSON.stringify(tally));
    });
  }

  test("is killed before each of its stores in these scenarios", () => {
    const unreached = [...points].filter((point) => !crashedAt.has(point));
    assert.ok(points.size > 40, `${points.size} points`);
    assert.deepEqual(unreached, []);
  });
});
