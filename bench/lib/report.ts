/** How benchmarks print and keep what they measured. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { arch, cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runtime } from "../../ffi/mod.ts";

const results = fileURLToPath(new URL("../results", import.meta.url));

/** Cells of one row; numbers are printed as they are given. */
export type Row = Readonly<Record<string, string | number>>;

/** A markdown table with the keys of the first row as its header. */
export function table(rows: readonly Row[]): string {
  const columns = Object.keys(rows[0] ?? {});
  const cells = [columns, ...rows.map((row) => columns.map((column) => String(row[column])))];
  const widths = columns.map((_, i) => Math.max(3, ...cells.map((line) => line[i]!.length)));
  const format = (line: readonly string[]) =>
    `| ${line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |`;
  const rule = `|${widths.map((width, i) => (i === 0 ? `:${"-".repeat(width + 1)}` : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  return [format(cells[0]!), rule, ...cells.slice(1).map(format)].join("\n");
}

/** What the figures depend on. */
export function environment() {
  const cpu = cpus();
  return {
    date: new Date().toISOString().slice(0, 16),
    cpu: cpu[0]?.model.trim() ?? arch(),
    cores: cpu.length,
    kernel: release(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    load: loadavg()[0]!.toFixed(2),
    harness: `${runtime.name} ${runtime.version}`,
  };
}

/** Writes `bench/results/NAME.json`. */
export function save(name: string, figures: unknown): void {
  mkdirSync(results, { recursive: true });
  const text = JSON.stringify({ environment: environment(), figures }, null, 2);
  writeFileSync(join(results, `${name}.json`), `${text}\n`);
}

/** The figures that `save` wrote. */
export function load(name: string): any {
  return JSON.parse(readFileSync(join(results, `${name}.json`), "utf8"));
}
