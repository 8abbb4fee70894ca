#!/usr/bin/env node
/**
 * Runs the whole suite: format, lint, types and build, then each tests/**\/*.test.ts under Bun and
 * under Deno. Needs Node 20 and npm; installs the packages itself.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { clearRunning, showResult, showRunning, showSummary } from "./harness/report.mjs";
import { execute, killRunning, runFile, summarize } from "./harness/run-file.mjs";
import { ensureInstalled, fail, root, runtimeNames } from "./setup.mjs";

const usage = `Usage: npm test -- [OPTION...] [PATH...]

Runs the tests whose path contains one of the PATHs, or all of them and the checks
(format, lint, types, build).

  --runtime=bun|deno     one runtime instead of both
  --full                 the counts that the issues name instead of the quick ones
  --jobs=N               test files at a time (default 2)
  --time-limit=SECONDS   for one file (default 120, guests 300, ten times that with --full)
  --no-checks            leave out the checks
  --help

The last line is "N passed, N failed, N skipped". The exit status is 0 when nothing failed and, with
RINGSIDE_REQUIRE_ALL=1, nothing was skipped.`;

/** Guests that boot at the same time; two of them already fill two cores. */
const GUEST_JOBS = 2;

/** The last one reads what the one before it makes. */
const checks = [
  ["check format and lint", ["node_modules/.bin/biome", "check", "--error-on-warnings"]],
  ["check types", ["node_modules/.bin/tsc", "-p", "."]],
  ["check build", ["node_modules/.bin/tsup"]],
];
const checksOfBuild = [
  ["check types of the build", ["node_modules/.bin/tsc", "-p", "tests/architecture/consumer"]],
];

function readOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      runtime: { type: "string" },
      full: { type: "boolean", default: process.env.RINGSIDE_TEST_FULL === "1" },
      jobs: { type: "string", default: "2" },
      "time-limit": { type: "string" },
      "no-checks": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const number = (name) => {
    const value = values[name];
    if (value === undefined || /^[1-9]\d*$/.test(value)) return Number(value);
    throw new Error(`--${name} needs a whole number: "${value}"`);
  };
  if (values.runtime !== undefined && !runtimeNames.includes(values.runtime)) {
    throw new Error(`--runtime is ${runtimeNames.join(" or ")}: "${values.runtime}"`);
  }
  return {
    help: values.help,
    full: values.full,
    jobs: number("jobs"),
    limit: number("time-limit"),
    checks: !values["no-checks"] && positionals.length === 0,
    runtimes: values.runtime === undefined ? runtimeNames : [values.runtime],
    filters: positionals,
  };
}

function findFiles(filters) {
  const files = readdirSync(join(root, "tests"), { recursive: true })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => `tests/${name}`)
    .filter((file) => filters.length === 0 || filters.some((part) => file.includes(part)))
    .sort();
  if (files.length === 0) throw new Error(`No test file matches ${filters.join(" ")}`);
  return files;
}

/** Test files by how they may run beside others. */
function kindOf(file) {
  if (file.startsWith("tests/guest/") || file.endsWith(".guest.test.ts")) return "guest";
  return file.endsWith(".timing.test.ts") ? "timing" : "plain";
}

function makeJobs(options) {
  const width = Math.max(0, ...options.files.map((file) => file.length));
  return options.files.flatMap((file) =>
    options.runtimes.map((runtime) => {
      const quick = kindOf(file) === "guest" ? 300 : 120;
      const seconds = options.limit || (options.full ? quick * 10 : quick);
      return {
        kind: kindOf(file),
        name: `${runtime} ${file}`,
        title: `${runtime.padEnd(5)} ${file.padEnd(width)}`,
        run: () => runFile(runtime, file, { seconds, full: options.full }),
      };
    }),
  );
}

function checkJob([name, command]) {
  const run = async () => {
    const result = await execute(command, { seconds: 300 });
    const events = [{ event: "declare", id: 1, name }];
    events.push({
      event: result.failure === null ? "pass" : "fail",
      id: 1,
      message: result.failure,
    });
    return { ...result, ...summarize(events, result.failure) };
  };
  return { name, run };
}

/** Runs jobs, `limit` at a time, in order. */
async function runJobs(jobs, limit, results) {
  const waiting = [...jobs];
  const running = new Set();
  const worker = async () => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      running.add(job.name);
      showRunning([...running]);
      const result = await job.run();
      running.delete(job.name);
      showResult(job.title ?? job.name, result);
      results.push({ name: job.name, result });
      if (running.size > 0) showRunning([...running]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, jobs.length) }, worker));
}

async function main() {
  const options = readOptions();
  if (options.help) return console.log(usage);
  ensureInstalled();
  const jobs = makeJobs({ ...options, files: findFiles(options.filters) });
  const of = (kind) => jobs.filter((job) => job.kind === kind);
  const results = [];
  if (options.checks) {
    await runJobs(checks.map(checkJob), options.jobs, results);
    await runJobs(checksOfBuild.map(checkJob), options.jobs, results);
  }
  await runJobs(of("timing"), 1, results);
  await runJobs(of("plain"), options.jobs, results);
  await runJobs(of("guest"), Math.min(options.jobs, GUEST_JOBS), results);
  const { failed, skipped } = showSummary(results);
  const incomplete = skipped > 0 && process.env.RINGSIDE_REQUIRE_ALL === "1";
  process.exitCode = failed > 0 || incomplete ? 1 : 0;
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    clearRunning();
    killRunning();
    process.exit(1);
  });
}
await main().catch(fail);
