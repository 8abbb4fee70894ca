/**
 * The block program against qemu-storage-daemon: random 4 KiB reads by an independent front-end
 * (tests/tools/vublk_bench.c), on a file in memory and on a cached file of the disk. All back-ends
 * run on the same file, in turns. The ratio is to the best peer at that depth.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { custom, launch, qemu, ringside } from "./lib/contenders.ts";
import { diskFolder, fillFile, memoryFolder, removeFolder } from "./lib/files.ts";
import { Report, type Row } from "./lib/report.ts";
import { type Competitor, type Figures, takeTurns } from "./lib/rounds.ts";
import type { Spread } from "./lib/stats.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    runs: { type: "string" },
    time: { type: "string" },
    depths: { type: "string", default: "1,32,128" },
    places: { type: "string", default: "tmpfs,disk" },
    load: { type: "string", default: "-w randread -b 4k" },
    size: { type: "string" },
    runtimes: { type: "string", default: "bun,deno" },
    with: { type: "string", multiple: true, default: [] },
    "no-qemu": { type: "boolean", default: false },
    pin: { type: "string" },
  },
});
const rounds = Number(options.runs ?? (options.quick ? 2 : 5));
const seconds = Number(options.time ?? (options.quick ? 0.5 : 2));
const megabytes = Number(options.size ?? (options.quick ? 256 : 1024));
const depths = options.depths.split(",").map(Number);

interface Place {
  readonly title: string;
  /** Peers' settings: through the page cache of a disk, io_uring is the one to beat. */
  readonly aios: readonly string[];
  makeFolder(): string;
}

const places: Readonly<Record<string, Place>> = {
  tmpfs: { title: "a file on tmpfs", aios: ["threads", "io_uring"], makeFolder: memoryFolder },
  disk: { title: "a page-cached file on disk", aios: ["io_uring"], makeFolder: diskFolder },
};

function bestPeer(figures: readonly Figures[]): number {
  return Math.max(...figures.filter(({ ours }) => !ours).map(({ iops }) => iops.median));
}

const thousands = ({ median, min, max }: Spread) =>
  [median, min, max].map((value) => (value / 1000).toFixed(1)) as [string, string, string];

function toRow(depth: number, figures: Figures, peer: number): Row {
  const [middle, min, max] = thousands(figures.iops);
  return {
    "queue depth": depth,
    "back-end": figures.name,
    "kIOPS, median": middle,
    "min - max": `${min} - ${max}`,
    "to best peer": Number.isFinite(peer) ? (figures.iops.median / peer).toFixed(2) : "",
    "CPU us/request": figures.cpu.median.toFixed(2),
    "p50 us": figures.p50.toFixed(0),
    "p99 us": figures.p99.toFixed(0),
    "requests/call": (1 / figures.calls).toFixed(1),
  };
}

async function measurePlace({ title, aios, makeFolder }: Place): Promise<void> {
  const folder = makeFolder();
  const competitors: Competitor[] = [];
  const results: { depth: number; figures: Figures[] }[] = [];
  try {
    const file = join(folder, "disk.img");
    fillFile(file, megabytes * 2 ** 20);
    const contenders = [
      ...options.runtimes.split(",").filter(Boolean).map(ringside),
      ...(options["no-qemu"] ? [] : qemu(aios)),
      ...options.with.map(custom),
    ];
    for (const [i, contender] of contenders.entries()) {
      const socket = join(folder, `${i}.sock`);
      const program = await launch(contender, socket, file, options.pin);
      competitors.push({ name: contender.name, ours: contender.ours, program });
    }
    for (const depth of depths) {
      const args = [...options.load.split(" "), "-d", `${depth}`];
      const total = rounds * competitors.length;
      const figures = await takeTurns(competitors, args, rounds, seconds, (done) => {
        if (process.stderr.isTTY)
          process.stderr.write(`\r${title}, depth ${depth}: ${done}/${total} `);
      });
      results.push({ depth, figures });
    }
  } finally {
    for (const { program } of competitors) await program.stop().catch(console.error);
    removeFolder(folder);
  }
  const rows = results.flatMap(({ depth, figures }) =>
    figures.map((row) => toRow(depth, row, bestPeer(figures))),
  );
  const how = `${rounds} runs of ${seconds} s each, file of ${megabytes} MiB`;
  report.section(`\`${options.load}\` on ${title}, ${how}`, rows, results);
}

const report = new Report("blk");
for (const name of options.places.split(",")) {
  const place = places[name];
  if (place === undefined) throw new Error(`Cannot use --places=${name}: tmpfs and disk exist`);
  await measurePlace(place);
}
if (!options.quick) report.save();
process.exit(0);
