/** Runs one test file under one runtime and tells what became of each of its tests. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root, runtimePath } from "../setup.mjs";

const harness = join(root, "scripts", "harness");

/** Deno's import map: the project's own, with `node:test` led to the harness. */
function importMap() {
  const base = pathToFileURL(`${root}/`).href;
  const path = join(root, "deno.json");
  const own = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")).imports ?? {}) : {};
  const imports = Object.fromEntries(
    Object.entries(own).map(([name, target]) => {
      const relative = target.startsWith("./") || target.startsWith("../");
      return [name, relative ? new URL(target, base).href : target];
    }),
  );
  const watched = new URL("scripts/harness/node-test.ts", base).href;
  return {
    imports: { ...imports, "node:test": watched },
    scopes: { [new URL("scripts/harness/", base).href]: { "node:test": "node:test" } },
  };
}

function commandLine(runtime, file, folder, seconds) {
  const program = runtimePath(runtime);
  if (runtime === "bun") {
    // Bun's own limit per test is 5 s; the time limit of the file is enough.
    const timeout = `--timeout=${seconds * 1000}`;
    return [program, "test", `--preload=${harness}/bun-preload.ts`, timeout, `./${file}`];
  }
  const map = join(folder, "import-map.json");
  writeFileSync(map, JSON.stringify(importMap()));
  const options = ["-A", "--no-check", "--no-lock", `--import-map=${map}`];
  return [program, "test", ...options, join(harness, "deno-entry.ts")];
}

/** Ends whatever is left of a test's process group. */
function killGroup(pid) {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nothing was left.
  }
}

/**
 * Runs a command in a process group of its own, with a time limit. The group ends with the command,
 * so that no back-end or guest outlives its test.
 */
export function execute([program, ...args], { env = {}, seconds }) {
  return new Promise((resolve) => {
    const started = performance.now();
    const child = spawn(program, args, {
      cwd: root,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", ...env },
    });
    let output = "";
    let timedOut = false;
    let ended = false;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output += text;
      });
    }
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup(child.pid);
    }, seconds * 1000);
    const finish = (failure) => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      running.delete(child.pid);
      resolve({ failure, output, seconds: (performance.now() - started) / 1000 });
    };
    child.on("error", (error) => finish(`cannot be started: ${error.message}`));
    // A process that the test left behind may hold the pipes open: end it first.
    child.on("exit", () => killGroup(child.pid));
    child.on("close", (status, signal) => {
      if (timedOut) finish(`not finished within ${seconds} s`);
      else if (signal !== null) finish(`killed by ${signal}`);
      else finish(status === 0 ? null : `exit status ${status}`);
    });
    if (child.pid !== undefined) running.add(child.pid);
  });
}

/** Process groups to end with the runner. */
const running = new Set();

export function killRunning() {
  for (const pid of running) killGroup(pid);
}

/** Turns the events of a test file into counts and named failures and skips. */
export function summarize(events, failure) {
  const end = failure ?? "the process ended";
  const tests = new Map();
  const failed = [];
  for (const { event, id, name, message, reason } of events) {
    if (event === "declare") tests.set(id, { name, state: "never started" });
    else if (event === "error") failed.push({ name, why: message });
    else Object.assign(tests.get(id), { state: event, why: message ?? reason });
  }
  let passed = 0;
  const skipped = [];
  for (const { name, state, why } of tests.values()) {
    if (state === "pass") passed++;
    else if (state === "fail") failed.push({ name, why });
    else if (state === "skip" && why) skipped.push({ name, why });
    else if (state === "skip") failed.push({ name, why: "skipped without a reason" });
    else failed.push({ name, why: state === "start" ? `did not end: ${end}` : state });
  }
  if (failure !== null && failed.length === 0) failed.push({ name: "(the file)", why: failure });
  else if (tests.size === 0 && failed.length === 0) {
    failed.push({ name: "(the file)", why: "declares no test" });
  }
  return { passed, failed, skipped };
}

/** Runs a test file. Returns `{ passed, failed, skipped, output, seconds }`. */
export async function runFile(runtime, file, { seconds, full }) {
  const folder = mkdtempSync(join(tmpdir(), "ringside-test-"));
  const events = join(folder, "events");
  try {
    const env = {
      RINGSIDE_TEST_EVENTS: events,
      RINGSIDE_TEST_FILE: join(root, file),
      DENO_NO_UPDATE_CHECK: "1",
      ...(full ? { RINGSIDE_TEST_FULL: "1" } : {}),
    };
    const run = await execute(commandLine(runtime, file, folder, seconds), { env, seconds });
    const lines = existsSync(events) ? readFileSync(events, "utf8").trim().split("\n") : [];
    const parsed = lines.filter(Boolean).map((line) => JSON.parse(line));
    return { ...run, ...summarize(parsed, run.failure) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
