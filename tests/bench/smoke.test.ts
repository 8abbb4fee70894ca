/** Benchmarks that have no tests of their own print a table. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { runtime } from "../../ffi/mod.ts";
import { compilerMissing } from "../tools/build.ts";
import { PATIENCE, runBench } from "./run-bench.ts";

const own = `--runtimes=${runtime.name}`;

type Bench = readonly [name: string, args: readonly string[], row: RegExp];

/** Arguments of each, and a row of its table. These measure what they run under. */
const each: readonly Bench[] = [
  ["ring", [], /^\| packed, direct +\| +\d+\.\d/m],
  ["endurance", [own, "--time=0.02"], /^\| 0\.0 +\| +\d+\.\d/m],
];
/** These start programs: the runtimes share them. */
const shared: Readonly<Record<string, readonly Bench[]>> = {
  bun: [
    ["gpu", [], /^\| bun, R8G8B8X8, pages +\| +\d+\.\d/m],
    ["net", [own, "--lengths=64", "--time=0.2"], /^\| ringside, bun +\|/m],
  ],
  deno: [["startup", [own], /^\| SIGTERM at depth 128 +\| +\d+ ms/m]],
};
const benches = [...each, ...shared[runtime.name]!];

describe("a benchmark", { skip: compilerMissing() ?? false }, () => {
  for (const [name, args, row] of benches) {
    test(`${name} reports`, { timeout: PATIENCE + 5000 }, async () => {
      assert.match(await runBench(name, ...args), row);
    });
  }
});
