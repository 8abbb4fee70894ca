/** The suite is worth something: each of these broken back-ends is caught by the check for it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { runtime } from "../../ffi/mod.ts";
import { Folder } from "../support/folder.ts";
import { root } from "../support/program.ts";
import { build, type Mutation, removeMutants } from "./mutant.ts";
import { examine, failures, ours } from "./subject.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const MIB = 2 ** 20;
const tardyDisk = join(root, "tests", "support", "tardy-disk.ts");

/** The command of a disk that always has requests in flight. */
export function tardy(image: string, bin?: string): string {
  const command = ours("ringside", `--blk-file=${image} --delay=10`, bin);
  return command.replace("ringside ", `ringside ${tardyDisk} `);
}

const nothing: Mutation = { name: "nothing", caughtBy: [], edits: [] };

/**
 * Declares a test per mistake, and one without any. It is the tester that is tested, so in a quick run the
 * runtimes share the mistakes.
 */
export function suite(all: readonly Mutation[]): void {
  const mutations = full ? all : all.filter((_, i) => i % 2 === (runtime.name === "bun" ? 0 : 1));
  const folder = new Folder();
  const image = folder.image(MIB);
  after(() => {
    removeMutants();
    folder[Symbol.dispose]();
  });
  const program = (bin: string, { slow = false, option = "", device }: Mutation) =>
    device === "net"
      ? ours("vhost-user-net", `--loopback --queue-pairs=2 ${option}`, bin)
      : slow
        ? tardy(image, bin)
        : ours("vhost-user-blk", `--blk-file=ram:1M ${option}`, bin);
  const optionsOf = ({ device = "blk" }: Mutation) => ({ device, timeout: 1500 }) as const;

  test("passes these checks when nothing is edited", { timeout: 60_000 }, async () => {
    const bin = build(nothing);
    const commands = new Map(mutations.map((mutation) => [program("", mutation), mutation]));
    for (const [command, mutation] of commands) {
      const chosen = mutations.filter((other) => program("", other) === command);
      const only = [...new Set(chosen.flatMap(({ caughtBy }) => caughtBy))];
      const results = await examine(program(bin, mutation), { ...optionsOf(mutation), only });
      assert.equal(results.length, only.length);
      assert.deepEqual(failures(results), []);
      assert.ok(results.every(({ outcome }) => outcome === "pass"));
    }
  });

  for (const mutation of mutations) {
    test(`is caught when ${mutation.name}`, { timeout: 60_000 }, async () => {
      const { caughtBy, attempts = 1 } = mutation;
      const command = program(build(mutation), mutation);
      for (let left = attempts, unnoticed = caughtBy; unnoticed.length > 0; ) {
        const results = await examine(command, { ...optionsOf(mutation), only: unnoticed });
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
