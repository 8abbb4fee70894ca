#!/usr/bin/env node
/**
 * Writes the results of `ringside conform --json` into docs/conformance.md, between its markers.
 *
 *     node scripts/conformance-table.mjs 'NAME=FILE' ...
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const page = join(fileURLToPath(new URL("..", import.meta.url)), "docs", "conformance.md");
const begin = "<!-- results: written by scripts/conformance-table.mjs -->";
const end = "<!-- end of results -->";

const groupOf = (id) => id.slice(0, id.indexOf("."));

function read(argument) {
  const at = argument.indexOf("=");
  if (at < 1) throw new Error(`Expected NAME=FILE: "${argument}"`);
  const report = JSON.parse(readFileSync(argument.slice(at + 1), "utf8"));
  return { name: argument.slice(0, at), ...report };
}

const row = (cells) => `| ${cells.join(" | ")} |`;
const table = (header, rows) => [row(header), row(header.map(() => "---")), ...rows.map(row)];

function tally(results) {
  const count = (outcome) => results.filter((result) => result.outcome === outcome).length;
  if (results.length === 0) return "";
  const failed = count("fail") > 0 ? `**${count("fail")}**` : "0";
  return `${count("pass")} / ${failed} / ${count("n/a")}`;
}

function summary(reports) {
  const ids = reports.flatMap(({ results }) => results.map(({ id }) => groupOf(id)));
  const rows = [...new Set(ids)].map((group) => [
    group,
    ...reports.map(({ results }) => tally(results.filter(({ id }) => groupOf(id) === group))),
  ]);
  const all = ["all", ...reports.map(({ results }) => tally(results))];
  return table(["group", ...reports.map(({ name }) => name)], [...rows, all]);
}

function failures(reports) {
  const foreign = reports.filter(({ counts }) => counts.fail > 0);
  const known = new Map(foreign.flatMap(({ results }) => results.map((r) => [r.id, r])));
  const failed = [...known.values()].filter(({ id }) =>
    foreign.some(({ results }) => results.some((r) => r.id === id && r.outcome === "fail")),
  );
  const marks = (id) =>
    foreign.map(({ results }) => {
      const outcome = results.find((result) => result.id === id)?.outcome;
      return outcome === "fail" ? "fails" : outcome === "pass" ? "" : "n/a";
    });
  const rows = failed.map(({ id, title }) => [`\`${id}\``, title, ...marks(id)]);
  return table(["check", "what it wants", ...foreign.map(({ name }) => name)], rows);
}

const reports = process.argv.slice(2).map(read);
if (reports.length === 0) throw new Error("Expected NAME=FILE ...");
const text = readFileSync(page, "utf8");
const [before, rest] = text.split(begin);
const after = rest.split(end)[1];
const lines = [
  begin,
  "",
  "Each cell counts pass / fail / n/a.",
  "",
  ...summary(reports),
  "",
  "What fails, and where:",
  "",
  ...failures(reports),
  "",
  end,
];
writeFileSync(page, before + lines.join("\n") + after);
