/**
 * The network program against DPDK's net_vhost: frames of 64 and 1500 bytes from a DPDK front-end
 * (virtio-user) that polls, one queue, in turns. The front-end has one processor, the back-end the other.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { launcher } from "../tests/support/program.ts";
import { Program } from "../tests/tools/process.ts";
import { memoryFolder, removeFolder } from "./lib/files.ts";
import { Report, type Row } from "./lib/report.ts";
import { median } from "./lib/stats.ts";
import { installed, Testpmd } from "./lib/testpmd.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    runs: { type: "string" },
    time: { type: "string" },
    lengths: { type: "string", default: "64,1500" },
    runtimes: { type: "string", default: "bun,deno" },
  },
});
const rounds = Number(options.runs ?? (options.quick ? 1 : 3));
const seconds = Number(options.time ?? (options.quick ? 1 : 3));

interface Load {
  readonly title: string;
  /** Ports of the front-end, each with a socket of its own. */
  readonly ports: number;
  readonly args: readonly string[];
  /** What is counted of the front-end's frames. */
  readonly counted: "rx" | "tx";
  /** Bursts to begin with, where the front-end passes on what it gets. */
  readonly first: number;
  readonly ours: readonly string[];
  /** The mode of a DPDK back-end that does the same. */
  readonly peer: string;
}

const loads: readonly Load[] = [
  {
    title: "sending to nobody",
    ports: 1,
    args: ["--forward-mode=txonly"],
    counted: "tx",
    first: 0,
    ours: ["--null"],
    peer: "rxonly",
  },
  {
    title: "there and back",
    ports: 1,
    args: ["--forward-mode=io"],
    counted: "rx",
    first: 6,
    ours: ["--loopback"],
    peer: "io",
  },
  {
    title: "from port to port",
    ports: 2,
    args: ["--forward-mode=mac"],
    counted: "rx",
    first: 3,
    ours: ["--switch"],
    peer: "io",
  },
];

interface BackEnd {
  stop(): Promise<unknown>;
}

async function startOurs(runtime: string, { ours }: Load, sockets: readonly string[]) {
  const paths = sockets.map((socket) => `--socket-path=${socket}`);
  const command = ["-c", "0", launcher("vhost-user-net"), ...ours, ...paths];
  const env = { RINGSIDE_RUNTIME: runtime };
  return new Program("taskset", command, { socket: sockets.at(-1)!, env }).ready();
}

async function startPeer({ peer }: Load, sockets: readonly string[]): Promise<BackEnd> {
  const vdevs = sockets.map((socket) => `net_vhost,iface=${socket},queues=1`);
  const args = [`--forward-mode=${peer}`];
  const testpmd = await new Testpmd({ vdevs, cpu: 0, args }).ready();
  await testpmd.command("start");
  return testpmd;
}

/** Millions of frames per second. */
async function measure(load: Load, length: number, sockets: readonly string[]): Promise<number> {
  const vdevs = sockets.map((path) => `net_virtio_user,path=${path},queues=1,queue_size=256`);
  const args = [...load.args, `--txpkts=${length}`];
  const front = await new Testpmd({ vdevs, cpu: 1, args }).ready();
  try {
    await front.command(load.first > 0 ? `start tx_first ${load.first}` : "start");
    await sleep(700);
    const before = await front.stats();
    const begun = performance.now();
    await sleep(seconds * 1000);
    const after = await front.stats();
    const passed = (performance.now() - begun) / 1000;
    await front.command("stop");
    return (after[load.counted] - before[load.counted]) / passed / 1e6;
  } finally {
    await front.stop();
  }
}

async function run(name: string, load: Load, length: number): Promise<number> {
  const folder = memoryFolder();
  const sockets = Array.from({ length: load.ports }, (_, i) => join(folder, `s${i}`));
  const backEnd =
    name === "net_vhost" ? await startPeer(load, sockets) : await startOurs(name, load, sockets);
  try {
    return await measure(load, length, sockets);
  } finally {
    await backEnd.stop();
    removeFolder(folder);
  }
}

async function compare(load: Load, length: number): Promise<void> {
  const names = [...options.runtimes.split(",").filter(Boolean), "net_vhost"];
  const figures = new Map<string, number[]>(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const name of names) figures.get(name)!.push(await run(name, load, length));
  }
  const peer = median(figures.get("net_vhost")!);
  const rows: Row[] = names.map((name) => {
    const rates = figures.get(name)!;
    const rate = median(rates);
    return {
      "back-end": name === "net_vhost" ? "DPDK net_vhost" : `ringside, ${name}`,
      "Mpps, median": rate.toFixed(2),
      "min - max": `${Math.min(...rates).toFixed(2)} - ${Math.max(...rates).toFixed(2)}`,
      "Gbit/s": ((rate * length * 8) / 1000).toFixed(1),
      "to DPDK": (rate / peer).toFixed(2),
    };
  });
  const how = `${length} bytes, ${rounds} runs of ${seconds} s each`;
  report.section(`Frames ${load.title}, ${how}`, rows, Object.fromEntries(figures));
}

const report = new Report("net");
if (!installed) console.log("net: no dpdk-testpmd, which Debian has in dpdk-dev");
else {
  for (const length of options.lengths.split(",").map(Number)) {
    for (const load of loads) await compare(load, length);
  }
  if (!options.quick) report.save();
}
process.exit(0);
