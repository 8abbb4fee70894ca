#!/usr/bin/env node
/**
 * Ringside in 20 seconds: serves a fresh disk image, drives it with the built-in front-end, and
 * shows how to boot a guest from it. Needs Node 20 and npm; installs the packages itself.
 */
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Display } from "./demo/display.mjs";
import { labFolder, qemuCommand } from "./demo/qemu.mjs";
import { ensureInstalled, fail, root, runtimeNames, runtimePath } from "./setup.mjs";

const usage = `Usage: npm run demo -- [OPTION...]

Serves a fresh sparse image of 1 GiB with vhost-user-blk, writes, flushes, reads back and verifies it
through the built-in front-end, and prints requests per second and latencies.

  --runtime=bun|deno  what runs both sides (default bun)
  --guest             boot Linux on the disk, too (needs tests/guest/lab/setup.sh)
  --seconds=N         how long each measurement takes (default 2)
  --json              print the result as JSON and nothing else
  --help`;

const IMAGE_SIZE = 2 ** 30;
const QUEUES = 2;
/** The back-end's start may wait for a busy machine. */
const START_LIMIT = 20_000;

function readOptions() {
  const { values } = parseArgs({
    options: {
      runtime: { type: "string", default: "bun" },
      guest: { type: "boolean", default: false },
      seconds: { type: "string", default: "2" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (!runtimeNames.includes(values.runtime)) {
    throw new Error(`--runtime is ${runtimeNames.join(" or ")}: "${values.runtime}"`);
  }
  const seconds = Number(values.seconds);
  if (!(seconds > 0 && seconds <= 60)) {
    throw new Error(`--seconds is a number above 0, at most 60: "${values.seconds}"`);
  }
  return { ...values, seconds };
}

/** Everything that must end with the demo, however it ends. */
const cleanUp = [];

function endAll() {
  for (const task of cleanUp.splice(0).reverse()) task();
}

function makeFolder() {
  const folder = mkdtempSync(join(tmpdir(), "ringside-demo-"));
  cleanUp.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function killGroup(pid) {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended, or never began.
  }
}

/** A child process whose end is awaited; what it wrote on stderr belongs to an error. */
function start(command, args, env = {}) {
  const child = spawn(command, args, {
    cwd: root,
    // A group of its own, so that what it starts ends with it.
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  cleanUp.push(() => killGroup(child.pid));
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    errors += text;
  });
  const ended = new Promise((resolve) => {
    child.on("error", (error) => resolve({ why: error.message }));
    child.on("close", (status, signal) => {
      resolve({ why: status === 0 ? null : `ended with ${signal ?? `exit status ${status}`}` });
    });
  });
  const check = async () => {
    const { why } = await ended;
    if (why !== null) throw new Error(`${relative(root, command)} ${why}\n${errors.trim()}`);
  };
  return { child, ended, check };
}

async function startBackEnd(runtime, image, socket) {
  const args = [`--socket-path=${socket}`, `--blk-file=${image}`, `--num-queues=${QUEUES}`];
  const command = join(root, "bin", "vhost-user-blk");
  const backEnd = start(command, args, { RINGSIDE_RUNTIME: runtime });
  let ended = false;
  backEnd.ended.then(() => {
    ended = true;
  });
  const begin = performance.now();
  while (!existsSync(socket)) {
    if (ended) await backEnd.check();
    if (performance.now() - begin > START_LIMIT) throw new Error("vhost-user-blk does not listen");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return { ...backEnd, startMs: performance.now() - begin };
}

/** Runs a script of this folder under the runtime; each line it prints is an event in JSON. */
async function runScript(runtime, name, args, onEvent) {
  const program = runtimePath(runtime);
  const flags = runtime === "deno" ? ["run", "-A", "--no-check"] : ["--no-install"];
  const script = start(program, [...flags, join(root, "scripts", name), ...args]);
  for await (const line of createInterface({ input: script.child.stdout })) {
    onEvent(JSON.parse(line));
  }
  await script.check();
}

function residentBytes(pid) {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) * 1024;
}

/** Serves a fresh image while `use` runs. Stops the back-end, which must end well. */
async function serve(runtime, use) {
  const folder = makeFolder();
  const image = join(folder, "disk.img");
  const socket = join(folder, "disk.sock");
  writeFileSync(image, "");
  truncateSync(image, IMAGE_SIZE);
  const backEnd = await startBackEnd(runtime, image, socket);
  await use({ socket, folder, image, pid: backEnd.child.pid, startMs: backEnd.startMs });
  backEnd.child.kill("SIGTERM");
  await backEnd.check();
}

/** Drives the disk by the built-in front-end. Returns everything that was found out. */
async function measure({ runtime, seconds }, display) {
  const result = { runtime };
  await serve(runtime, async ({ socket, image, pid, startMs }) => {
    display.serving({ runtime, size: IMAGE_SIZE, startMs });
    await runScript(runtime, "demo/drive.ts", [socket, `${seconds}`], ({ event, ...data }) => {
      if (event === "progress") display.progress(data);
      else Object.assign(result, data);
    });
    result.startMs = startMs;
    result.allocatedBytes = statSync(image).blocks * 512;
    result.residentBytes = residentBytes(pid);
  });
  display.measured(result);
  return result;
}

/** Boots Linux on a fresh disk. Returns what it did, step by step. */
async function boot({ runtime }, display) {
  const steps = [];
  display.note("\nBooting Linux on a fresh disk ...");
  await serve(runtime, ({ socket, folder }) =>
    runScript(runtime, "demo/guest.ts", [socket, folder], ({ step, seconds }) => {
      steps.push({ step, seconds });
      display.guest({ step, seconds });
    }),
  );
  return steps;
}

async function main() {
  const options = readOptions();
  if (options.help) return console.log(usage);
  if (options.guest && !existsSync(join(labFolder, "ready"))) {
    throw new Error("Cannot boot a guest before tests/guest/lab/setup.sh has unpacked one");
  }
  const display = new Display(options.json);
  ensureInstalled((text) => display.note(text));
  const result = await measure(options, display);
  if (options.guest) result.guest = await boot(options, display);
  display.end(result, qemuCommand());
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    endAll();
    process.exit(1);
  });
}
try {
  await main();
} catch (error) {
  endAll();
  fail(error);
}
endAll();
