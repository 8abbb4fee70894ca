/** The suite is worth something: each of these broken back-ends is caught by the check for it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { root } from "../support/program.ts";
import { build, type Mutation, removeMutants } from "./mutant.ts";
import { examine, failures, ours } from "./subject.ts";

const slowDisk = join(root, "tests", "conform", "slow-disk.ts");

/** The command of a program: the block device, or one whose requests are always in flight. */
function program(bin: string, { slow = false }: Mutation): string {
  if (!slow) return ours("vhost-user-blk", "--blk-file=ram:1M", bin);
  return ours("ringside", "", bin).replace("ringside ", `ringside ${slowDisk} `);
}

const nothing: Mutation = { name: "nothing", caughtBy: [], edits: [] };

/** Declares a test per mistake, and one without any. */
export function suite(mutations: readonly Mutation[]): void {
  after(removeMutants);
  const all = [...new Set(mutations.flatMap(({ caughtBy }) => caughtBy))];
  const options = { device: "blk", timeout: 1500 } as const;

  test("passes these checks when nothing is edited", { timeout: 60_000 }, async () => {
    const bin = build(nothing);
    const results = await examine(program(bin, nothing), { ...options, only: all });
    assert.equal(results.length, all.length);
    assert.deepEqual(failures(results), []);
    const slow = { ...nothing, slow: true };
    const drained = await examine(program(bin, slow), { ...options, only: ["vrings.V11-drain"] });
    assert.deepEqual(failures(drained), []);
  });

  for (const mutation of mutations) {
    test(`is caught when ${mutation.name}`, { timeout: 60_000 }, async () => {
      const { caughtBy, attempts = 1 } = mutation;
      const command = program(build(mutation), mutation);
      for (let left = attempts, unnoticed = caughtBy; unnoticed.length > 0; ) {
        const results = await examine(command, { ...options, only: unnoticed });
        assert.equal(results.length, unnoticed.length);
        const blind = results.filter(({ outcome }) => outcome !== "fail");
        unnoticed = blind.map(({ id }) => id);
        left--;
        const words = blind.map(({ id, outcome, detail }) => `${id}: ${outcome} ${detail}`);
        if (left === 0) assert.deepEqual(words, [], "these did not notice it");
      }
    });
  }
}
