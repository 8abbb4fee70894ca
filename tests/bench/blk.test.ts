/** Short runs of the block benchmark. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Bar, barChart } from "../../bench/lib/chart.ts";
import { runtime } from "../../ffi/mod.ts";
import { compilerMissing } from "../tools/build.ts";
import { PATIENCE, runBench } from "./run-bench.ts";

const bench = (...options: string[]): Promise<string> =>
  runBench("blk", "--runs=1", "--time=0.1", "--size=16", `--runtimes=${runtime.name}`, ...options);

describe("the block benchmark", { skip: compilerMissing() ?? false }, () => {
  test("reports each line with a ratio to its peer", { timeout: PATIENCE + 5_000 }, async () => {
    const report = await bench("--lines=ram,ram-polled");
    const rows = report.split("\n").filter((line) => line.includes(`ringside, ${runtime.name}`));
    assert.equal(rows.length, 2, report);
    for (const row of rows) assert.match(row, /\|\s+\d+\.\d+ \|.*(met|MISSED)/);
    assert.equal(report.split("\n").filter((line) => /\|\s+C \|/.test(line)).length, 2, report);
  });

  test("measures files without peers, and slow flushes", {
    timeout: PATIENCE + 5_000,
  }, async () => {
    const report = await bench("--no-peers", "--lines=writes-tmpfs,flush");
    assert.match(report, new RegExp(`ringside, ${runtime.name} \\|\\s+\\d+\\.\\d+`));
    assert.match(report, new RegExp(`ringside, ${runtime.name}, io_uring \\|`));
  });
});

test("a chart has a bar for each median and a line from the lowest to the highest run", () => {
  const bar: Bar = { label: "a <b>", median: 2, min: 1, max: 4, ours: true };
  const svg = barChart("Title", "units", [{ title: "group", bars: [bar] }]);
  assert.match(svg, /a &lt;b&gt;/);
  const [, width] = /<rect x="250"[^>]* width="([\d.]+)"/.exec(svg) ?? [];
  const [, from, to] = /<path d="M([\d.]+) \d+H([\d.]+)/.exec(svg) ?? [];
  assert.equal(Number(to) - 250, 2 * Number(width));
  assert.equal(Number(from) - 250, Number(width) / 2);
});
