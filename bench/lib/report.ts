/** How benchmarks print and keep what they measured. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
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

export interface Section {
  readonly title: string;
  /** The file of its chart in bench/results/. */
  readonly chart?: string;
  readonly rows: readonly Row[];
  /** What the rows were made of, in full. */
  readonly figures: unknown;
}

/** What a benchmark keeps in bench/results/NAME.json. */
export interface Recorded {
  readonly environment: ReturnType<typeof environment>;
  readonly sections: readonly Section[];
}

/** Collects what a benchmark measured; prints it at once, keeps it when asked. */
export class Report {
  readonly #name: string;
  readonly #sections: Section[] = [];
  /** Charts by their files' names. */
  readonly #charts = new Map<string, string>();

  constructor(name: string) {
    this.#name = name;
  }

  /** `chart`: the name of its file, and its contents as SVG. */
  section(
    title: string,
    rows: readonly Row[],
    figures: unknown,
    chart?: readonly [file: string, svg: string],
  ): void {
    console.log(`\n${title}:\n\n${table(rows)}`);
    if (chart !== undefined) this.#charts.set(...chart);
    const drawn = chart === undefined ? {} : { chart: chart[0] };
    this.#sections.push({ title, ...drawn, rows, figures });
  }

  /**
   * What is to be saved. With `kept`, sections of an earlier record that were not measured again stay
   * where they were.
   */
  #record(kept: Recorded | null): Recorded {
    const fresh = this.#sections;
    const sections =
      kept === null
        ? fresh
        : [
            ...kept.sections.map((old) => fresh.find(({ title }) => title === old.title) ?? old),
            ...fresh.filter(({ title }) => !kept.sections.some((old) => old.title === title)),
          ];
    return { environment: environment(), sections };
  }

  /** `partly`: keeps the recorded sections that were not measured this time. */
  save(partly = false): void {
    mkdirSync(results, { recursive: true });
    const record = this.#record(partly ? load(this.#name) : null);
    for (const [file, svg] of this.#charts) writeFileSync(join(results, file), svg);
    writeFileSync(join(results, `${this.#name}.json`), `${JSON.stringify(record, null, 1)}\n`);
  }
}

/** What `save` wrote, or null. */
export function load(name: string): Recorded | null {
  const path = join(results, `${name}.json`);
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Recorded) : null;
}
