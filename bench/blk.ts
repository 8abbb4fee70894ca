/**
 * The block program against its peers: qemu-storage-daemon and a back-end in C. Each line of
 * bench/lib/lines.ts is work for an independent front-end (tests/tools/vublk_bench.c), done by all
 * contenders in turns. The ratio is to the best peer at that depth.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runVublk } from "../tests/tools/vublk.ts";
import { type Bar, barChart } from "./lib/chart.ts";
import { custom, launch } from "./lib/contenders.ts";
import { fillFile, removeFolder } from "./lib/files.ts";
import { measureFlush } from "./lib/flush.ts";
import { type Line, lines, type Target } from "./lib/lines.ts";
import { Report, type Row } from "./lib/report.ts";
import { type Competitor, type Figures, takeTurns } from "./lib/rounds.ts";
import type { Spread } from "./lib/stats.ts";

/** The line that is not vublk_bench's. */
const FLUSH = "flush";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    runs: { type: "string" },
    time: { type: "string" },
    depths: { type: "string" },
    lines: { type: "string" },
    load: { type: "string" },
    size: { type: "string" },
    runtimes: { type: "string", default: "bun,deno" },
    with: { type: "string", multiple: true, default: [] },
    "no-peers": { type: "boolean", default: false },
    pin: { type: "string" },
    save: { type: "boolean", default: false },
  },
});
const rounds = Number(options.runs ?? (options.quick ? 2 : 5));
const seconds = Number(options.time ?? (options.quick ? 0.3 : 1));
const megabytes = Number(options.size ?? (options.quick ? 256 : 1024));
const runtimes = options.runtimes.split(",").filter(Boolean);

interface Measured {
  readonly depth: number;
  readonly figures: readonly Figures[];
}

/** What the best of the others did; NaN without others. */
function bestPeer(figures: readonly Figures[]) {
  const peers = figures.filter(({ ours }) => !ours);
  const iops = Math.max(...peers.map((peer) => peer.iops.median));
  const best = peers.find((peer) => peer.iops.median === iops);
  return { iops: best?.iops.median ?? Number.NaN, cpu: best?.cpu.median ?? Number.NaN };
}

const thousands = ({ median, min, max }: Spread) =>
  [median, min, max].map((value) => (value / 1000).toFixed(1)) as [string, string, string];

function verdict(iops: number, cpu: number, target: Target): string {
  const met = iops >= target.iops && (target.cpu === undefined || cpu <= target.cpu);
  const limits = `${target.iops}${target.cpu === undefined ? "" : `, ${target.cpu}`}`;
  return `${limits}: ${met ? "met" : "MISSED"}`;
}

function toRow(depth: number, figures: Figures, all: readonly Figures[], target: Target): Row {
  const [middle, min, max] = thousands(figures.iops);
  const peer = bestPeer(all);
  const iops = figures.iops.median / peer.iops;
  const cpu = figures.cpu.median / peer.cpu;
  const known = Number.isFinite(iops);
  return {
    "queue depth": depth,
    "back-end": figures.name,
    "kIOPS, median": middle,
    "min - max": `${min} - ${max}`,
    "to best peer": known ? iops.toFixed(2) : "",
    "CPU us/request": figures.cpu.median.toFixed(2),
    "to best peer's": known ? cpu.toFixed(2) : "",
    target: known && figures.ours ? verdict(iops, cpu, target) : "",
    "p50 us": figures.p50.toFixed(0),
    "p99 us": figures.p99.toFixed(0),
    "requests/call": figures.calls > 0 ? (1 / figures.calls).toFixed(1) : "-",
  };
}

function toBar({ name, ours, iops }: Figures): Bar {
  const [median, min, max] = [iops.median, iops.min, iops.max].map((value) => value / 1000);
  return { label: name, ours, median: median!, min: min!, max: max! };
}

/** The depths to measure: in a quick run, one is enough. */
function depthsOf(line: Line): readonly number[] {
  if (options.depths !== undefined) return options.depths.split(",").map(Number);
  if (!options.quick) return line.depths;
  return [line.depths.includes(32) ? 32 : line.depths[0]!];
}

async function measure(line: Line, folder: string, load: string): Promise<Measured[]> {
  const competitors: Competitor[] = [];
  const results: Measured[] = [];
  try {
    const file = join(folder, "disk.img");
    if (line.file) fillFile(file, megabytes * 2 ** 20, line.piece);
    const all = line.contenders(runtimes).filter(({ ours }) => ours || !options["no-peers"]);
    for (const [i, contender] of [...all, ...options.with.map(custom)].entries()) {
      const program = await launch(contender, join(folder, `${i}.sock`), file, options.pin);
      competitors.push({ name: contender.name, ours: contender.ours, program });
      if (line.first !== undefined) await runVublk(program.socket, line.first.split(" "));
    }
    for (const depth of depthsOf(line)) {
      const args = [...load.split(" "), "-d", `${depth}`];
      const total = rounds * competitors.length;
      const figures = await takeTurns(competitors, args, rounds, seconds, (done) => {
        if (process.stderr.isTTY)
          process.stderr.write(`\r${line.name}, depth ${depth}: ${done}/${total} `);
      });
      results.push({ depth, figures });
    }
  } finally {
    for (const { program } of competitors) await program.stop().catch(console.error);
  }
  return results;
}

async function measureLine(line: Line): Promise<void> {
  const load = options.load ?? line.load;
  const folder = line.makeFolder();
  try {
    const results = await measure(line, folder, load);
    const rows = results.flatMap(({ depth, figures }) =>
      figures.map((each) => toRow(depth, each, figures, line.target(depth))),
    );
    const groups = results.map(({ depth, figures }) => ({
      title: `queue depth ${depth}`,
      bars: figures.map(toBar),
    }));
    const svg = barChart(line.title, "thousand requests per second", groups);
    const size = line.file ? `, file of ${megabytes} MiB` : "";
    const how = `${rounds} runs of ${seconds} s each${size}`;
    report.section(`${line.title} (\`${load}\`), ${how}`, rows, results, [
      `blk-${line.name}.svg`,
      svg,
    ]);
  } finally {
    removeFolder(folder);
  }
}

const names = [...lines.map(({ name }) => name), FLUSH];
const chosen = options.lines?.split(",") ?? names;
const unknown = chosen.find((name) => !names.includes(name));
if (unknown !== undefined) {
  throw new Error(`Cannot use --lines=${unknown}: there are ${names.join(", ")}`);
}
const report = new Report("blk");
for (const name of chosen) {
  const line = lines.find((each) => each.name === name);
  if (line !== undefined) await measureLine(line);
  else await measureFlush(report, runtimes, options.quick);
  // What was measured survives a line that fails, or somebody who is tired of waiting.
  if (!options.quick || options.save) report.save(options.lines !== undefined);
}
process.exit(0);
