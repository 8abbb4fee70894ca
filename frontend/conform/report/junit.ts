/** JUnit's XML, as continuous integration reads it: a suite per group. */
import { groupOf, type Result } from "../check.ts";

const escapes: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", '"': "&quot;" };

function quoted(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: XML 1.0 cannot hold them
  return text.replace(/[\x00-\x08\x0b\x0c\x0e-\x1f]/g, "?").replace(/[&<"]/g, (c) => escapes[c]!);
}

function testCase({ id, title, source, outcome, detail, milliseconds }: Result): string {
  const name = quoted(`${id}: ${title} [${source}]`);
  const start = `<testcase classname="${quoted(groupOf(id))}" name="${name}"`;
  const timed = `${start} time="${(milliseconds / 1000).toFixed(3)}"`;
  if (outcome === "pass") return `    ${timed}/>`;
  const inner =
    outcome === "fail"
      ? `<failure message="${quoted(detail)}"/>`
      : `<skipped message="${quoted(`${outcome}: ${detail}`)}"/>`;
  return `    ${timed}>${inner}</testcase>`;
}

/** The whole document. */
export function junitReport(results: readonly Result[]): string {
  const groups = [...new Set(results.map(({ id }) => groupOf(id)))];
  const suites = groups.map((group) => {
    const own = results.filter(({ id }) => groupOf(id) === group);
    const count = (...wanted: string[]) => own.filter((r) => wanted.includes(r.outcome)).length;
    const attributes =
      `name="${quoted(group)}" tests="${own.length}" failures="${count("fail")}" ` +
      `skipped="${count("n/a", "skip")}"`;
    return [`  <testsuite ${attributes}>`, ...own.map(testCase), "  </testsuite>"].join("\n");
  });
  const lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>", ...suites];
  return [...lines, "</testsuites>"].join("\n");
}
