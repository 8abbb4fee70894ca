/** The benchmark of a guest's TCP at a tap reports. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { runtime } from "../../ffi/mod.ts";
import { labProblem } from "../guest/lab.ts";
import { tapProblem } from "../net/namespace.ts";
import { PATIENCE, runBench } from "./run-bench.ts";

describe("a benchmark", { skip: labProblem() ?? tapProblem() ?? false }, () => {
  test("net-guest reports", { timeout: PATIENCE + 5000 }, async () => {
    const report = await runBench("net-guest", `--runtimes=${runtime.name}`);
    assert.match(report, new RegExp(`^\\| ringside, ${runtime.name} +\\| +\\d+\\.\\d`, "m"));
  });
});
