/**
 * A program's life: memory when idle, how fast it answers `--print-capabilities` compared with the
 * bare runtime, and how fast it ends on SIGTERM, idle and while saturated at queue depth 128.
 */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { repository } from "../tests/guest/lab.ts";
import { residentSize } from "../tests/support/process-status.ts";
import { blkProgram, startBlk } from "../tests/tools/process.ts";
import { runVublk } from "../tests/tools/vublk.ts";
import { fillFile, memoryFolder, removeFolder } from "./lib/files.ts";
import { Report, type Row } from "./lib/report.ts";
import { type Spread, spread } from "./lib/stats.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    runtimes: { type: "string", default: "bun,deno" },
  },
});
const starts = options.quick ? 5 : 25;
const stops = options.quick ? 3 : 15;
const DISK_SIZE = 64 * 2 ** 20;
const BLOCK = 4096;

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The command that runs a script under a runtime, as bin/ringside does it. */
function bareCommand(runtime: string, script: string): string[] {
  const modules = join(repository, "node_modules");
  return runtime === "bun"
    ? [join(modules, "bun/bin/bun.exe"), "--no-install", script]
    : [join(modules, "deno/deno"), "run", "-A", "--no-check", "--no-lock", script];
}

function time(run: () => SpawnSyncReturns<Buffer>): number {
  const start = performance.now();
  const { status, stderr } = run();
  if (status !== 0) throw new Error(`exit status ${status}: ${stderr}`);
  return performance.now() - start;
}

/** Milliseconds for `--print-capabilities` and for an empty script, in turns. */
function measureStart(runtime: string, folder: string) {
  const script = join(folder, "empty.mjs");
  writeFileSync(script, "");
  const [program, ...args] = bareCommand(runtime, script);
  const env = { ...process.env, RINGSIDE_RUNTIME: runtime, DENO_NO_UPDATE_CHECK: "1" };
  const capabilities: number[] = [];
  const bare: number[] = [];
  for (let i = 0; i <= starts; i++) {
    const asked = time(() => spawnSync(blkProgram, ["--print-capabilities"], { env }));
    const empty = time(() => spawnSync(program!, args, { env }));
    // The first one fills caches.
    if (i === 0) continue;
    capabilities.push(asked);
    bare.push(empty);
  }
  return { capabilities: spread(capabilities), bare: spread(bare) };
}

async function measureMemory(runtime: string, folder: string, file: string) {
  const program = await startBlk(runtime, join(folder, "idle.sock"), file);
  await pause(1000);
  const idle = residentSize(program.pid) / 1024;
  await runVublk(program.socket, ["-d", "128", "-t", "1"]);
  await pause(1000);
  const used = residentSize(program.pid) / 1024;
  await program.stop();
  return { idle, used };
}

/** Blocks of the file that are neither as they were nor what the load writes, which is zeros. */
function damagedBlocks(file: string, before: Buffer): number {
  const zeros = Buffer.alloc(BLOCK);
  const after = readFileSync(file);
  let damaged = after.length === before.length ? 0 : 1;
  for (let at = 0; at < after.length; at += BLOCK) {
    const block = after.subarray(at, at + BLOCK);
    if (!block.equals(before.subarray(at, at + BLOCK)) && !block.equals(zeros)) damaged++;
  }
  return damaged;
}

interface Stop {
  readonly milliseconds: number;
  readonly code: number | null;
}

/** Ends the program by SIGTERM. `load` is what a front-end does meanwhile, nothing when empty. */
async function stopOnce(runtime: string, folder: string, file: string, load: string[]) {
  const program = await startBlk(runtime, join(folder, "stop.sock"), file);
  // The front-end ends with an error: the back-end leaves in the middle of its work.
  const done = load.length > 0 ? runVublk(program.socket, load).catch(() => {}) : null;
  await pause(600);
  const start = performance.now();
  const { code } = await program.stop();
  const milliseconds = performance.now() - start;
  await done;
  return { milliseconds, code } satisfies Stop;
}

async function measureStop(runtime: string, folder: string, file: string, load: string[]) {
  fillFile(file, DISK_SIZE);
  const before = readFileSync(file);
  const runs: Stop[] = [];
  for (let i = 0; i < stops; i++) runs.push(await stopOnce(runtime, folder, file, load));
  const failed = runs.filter(({ code }) => code !== 0).length;
  const time = spread(runs.map(({ milliseconds }) => milliseconds));
  return { time, failed, damaged: damagedBlocks(file, before) };
}

async function measureRuntime(runtime: string, folder: string) {
  const file = join(folder, "disk.img");
  fillFile(file, DISK_SIZE);
  const saturated = ["-w", "randwrite", "-b", "4k", "-d", "128", "-t", "5", "-W", "0"];
  return {
    ...measureStart(runtime, folder),
    memory: await measureMemory(runtime, folder, file),
    stopIdle: await measureStop(runtime, folder, file, []),
    stopSaturated: await measureStop(runtime, folder, file, saturated),
  };
}

type Figures = Awaited<ReturnType<typeof measureRuntime>>;

const ms = ({ median, min, max }: Spread) =>
  `${median.toFixed(0)} ms (${min.toFixed(0)} - ${max.toFixed(0)})`;

function stopText({ time, failed, damaged }: Figures["stopIdle"]): string {
  return `${ms(time)}${failed || damaged ? `, ${failed} FAILED, ${damaged} blocks DAMAGED` : ""}`;
}

/** A row per figure, a column per runtime. */
function toRows(figures: Readonly<Record<string, Figures>>): Row[] {
  const row = (what: string, target: string, show: (figures: Figures) => string): Row => ({
    what,
    ...Object.fromEntries(Object.entries(figures).map(([name, each]) => [name, show(each)])),
    target,
  });
  return [
    row("memory when idle", "<= 60 / 90 MiB", ({ memory }) => `${memory.idle.toFixed(1)} MiB`),
    row("memory after depth 128", "", ({ memory }) => `${memory.used.toFixed(1)} MiB`),
    row("--print-capabilities", "<= 100 / 200 ms", ({ capabilities }) => ms(capabilities)),
    row("bare runtime", "", ({ bare }) => ms(bare)),
    row("SIGTERM when idle", "< 200 ms", ({ stopIdle }) => stopText(stopIdle)),
    row("SIGTERM at depth 128", "< 200 ms", ({ stopSaturated }) => stopText(stopSaturated)),
  ];
}

const folder = memoryFolder();
try {
  const figures: Record<string, Figures> = {};
  for (const runtime of options.runtimes.split(","))
    figures[runtime] = await measureRuntime(runtime, folder);
  const report = new Report("startup");
  const title = "Start, memory and end of vhost-user-blk, median (min - max)";
  report.section(title, toRows(figures), figures);
  if (!options.quick) report.save();
} finally {
  removeFolder(folder);
}
process.exit(0);
