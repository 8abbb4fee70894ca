/** Puts what the benchmarks recorded into bench/results.md, below the description of the method. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { load, table } from "./lib/report.ts";

const path = fileURLToPath(new URL("results.md", import.meta.url));
const heading = "## Recorded figures\n";
const names = [
  "ring-bun",
  "ring-deno",
  "allocation-bun",
  "allocation-deno",
  "blk",
  "guest",
  "endurance",
  "gpu",
  "net",
  "net-guest",
  "net-guest-plain",
  "virgl-bun",
  "virgl-deno",
  "startup",
];

function render(name: string): string {
  const record = load(name);
  if (record === null) return "";
  const { date, cpu, cores, kernel, memoryGiB, load: busy, harness } = record.environment;
  const where = `${date} UTC, ${cores} x ${cpu}, ${memoryGiB} GiB, Linux ${kernel}`;
  const sections = record.sections.map(({ title, chart, rows }) => {
    const picture = chart === undefined ? "" : `\n![${title}](results/${chart})\n`;
    return `### ${title}\n\n${table(rows)}\n${picture}`;
  });
  return `${sections.join("\n")}\n${where}, harness ${harness}, load at the end ${busy}.\n`;
}

const text = readFileSync(path, "utf8");
const at = text.indexOf(heading);
if (at < 0) throw new Error(`Cannot find "${heading.trim()}" in ${path}`);
const figures = names.map(render).filter(Boolean).join("\n");
const none = "None yet: `npm run bench` records them, `npm run bench -- results` puts them here.\n";
writeFileSync(path, `${text.slice(0, at)}${heading}\n${figures || none}`);
