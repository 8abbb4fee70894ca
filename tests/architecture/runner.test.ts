/** The test runner itself: a failure of any kind must reach the totals. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { runFile } from "../../scripts/harness/run-file.mjs";

const runtime = "Deno" in globalThis ? "deno" : "bun";

function run(name: string, seconds = 30) {
  return runFile(runtime, `tests/architecture/runner/${name}.ts`, { seconds, full: false });
}

const names = (rows: { name: string }[]) => rows.map(({ name }) => name).sort();

describe("the test runner", () => {
  it("counts passes, failures, skips and sub-tests, and names them", async () => {
    const result = await run("mixed");
    assert.equal(result.passed, 4);
    assert.deepEqual(names(result.failed), [
      "fails",
      "is skipped silently",
      "outer > inner > fails",
    ]);
    const skips = result.skipped.map(({ name, why }) => `${name}: ${why}`).sort();
    assert.deepEqual(skips, [
      "finds out late: found out late",
      "is skipped: no such device",
      "left out: a whole group",
      "parent > child is skipped: not here",
    ]);
  });

  it("counts the tests that a dying process did not finish as failed", async () => {
    const { passed, failed } = await run("dies");
    assert.equal(passed, 1);
    assert.deepEqual(failed, [
      { name: "dies", why: "did not end: killed by SIGKILL" },
      { name: "comes too late", why: "never started" },
    ]);
  });

  it("counts a test that ends the process with status 0 as failed", async () => {
    const { failed } = await run("leaves");
    assert.deepEqual(failed, [{ name: "leaves", why: "did not end: the process ended" }]);
  });

  for (const name of ["throws", "late", "hook", "empty"]) {
    it(`counts one failure for a file that ${name === "empty" ? "declares nothing" : name}`, async () => {
      const { failed } = await run(name);
      assert.equal(failed.length, 1);
    });
  }

  it("ends a file that takes too long, and the processes it started", async () => {
    const { failed, output } = await run("hangs", 3);
    assert.deepEqual(failed, [{ name: "hangs", why: "did not end: not finished within 3 s" }]);
    const child = /child (\d+)/.exec(output)?.[1];
    assert.ok(child !== undefined, output);
    // A zombie that nobody has waited for yet is dead, too.
    let state = "gone";
    try {
      state = /\) (\w) /.exec(readFileSync(`/proc/${child}/stat`, "utf8"))?.[1] ?? "gone";
    } catch {}
    assert.ok(state === "gone" || state === "Z" || state === "X", `the child's state is ${state}`);
  });
});
