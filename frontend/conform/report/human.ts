/** Lines for people. */
import { type Check, groupOf, type Outcome, outcomes, type Result } from "../check.ts";

const colors: Readonly<Record<Outcome, number>> = { pass: 32, fail: 31, "n/a": 90, skip: 33 };

/** `fail  rings.split-one  A request is completed ... [virtio 1.3 2.7.8]`, and why below it. */
export function checkLine(
  { id, title, source, outcome, detail }: Result,
  width: number,
  color = false,
): string {
  const word = outcome.padEnd(5);
  const shown = color ? `\x1b[${colors[outcome]}m${word}\x1b[0m` : word;
  const line = `${shown} ${id.padEnd(width)}  ${title} [${source}]`;
  return detail === "" ? line : `${line}\n      ${detail}`;
}

/** How often each outcome came, per group and in all. */
export function summary(results: readonly Result[]): string {
  const groups = [...new Set(results.map(({ id }) => groupOf(id)))];
  const rows = groups.map((group) => [
    group,
    ...tally(results.filter(({ id }) => groupOf(id) === group)),
  ]);
  const all = [["", ...outcomes], ...rows, ["all", ...tally(results)]];
  const width = Math.max(...all.map(([name]) => name!.length));
  return all
    .map(([name, ...cells]) => [name!.padEnd(width), ...cells.map((c) => c.padStart(5))].join(" "))
    .join("\n");
}

function tally(results: readonly Result[]): string[] {
  return outcomes.map((outcome) => `${results.filter((r) => r.outcome === outcome).length}`);
}

/** One line per check, without running any. */
export function listText(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ id }) => id.length));
  return checks
    .map(({ id, title, source }) => `${id.padEnd(width)}  ${title} [${source}]`)
    .join("\n");
}
