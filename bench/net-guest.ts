/**
 * TCP between a Linux guest of QEMU (TCG) and the host by taps: one interface of vhost-user-net for each
 * runtime, and one of QEMU's own virtio-net with `vhost=off`. All are the same guest's, used in turns.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bootGuest, type Guest } from "../tests/guest/guest.ts";
import { labProblem } from "../tests/guest/lab.ts";
import { hostNc, inside, listensIn, listensOn, receive } from "../tests/guest/netcat.ts";
import { until } from "../tests/guest/wait.ts";
import { Namespace, tapProblem } from "../tests/net/namespace.ts";
import { cpuTicks } from "../tests/support/process-status.ts";
import { launcher } from "../tests/support/program.ts";
import { Program } from "../tests/tools/process.ts";
import { memoryFolder, removeFolder } from "./lib/files.ts";
import { Report, type Row } from "./lib/report.ts";
import { median } from "./lib/stats.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    runs: { type: "string" },
    runtimes: { type: "string", default: "bun,deno" },
    plain: { type: "boolean", default: false },
  },
});
const rounds = Number(options.runs ?? (options.quick ? 1 : 5));
const mebibytes = options.quick ? 16 : options.plain ? 32 : 128;
/** Without these each packet is a frame of 1500 bytes, whoever cuts it: then packets can be compared. */
const OFFLOADS = ["csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo"].concat([
  "guest_csum",
  "guest_tso4",
  "guest_tso6",
  "guest_ecn",
  "guest_ufo",
]);
const plain = options.plain ? OFFLOADS.map((name) => `,${name}=off`).join("") : "";
/** Microseconds of a tick of processor time. */
const TICK = 10_000;
const timeoutMs = 120_000;

/** One of the guest's interfaces. */
interface Interface {
  readonly name: string;
  /** Of the tap, the guest's interface and their network. */
  readonly number: number;
  /** The program behind it, or null when that is QEMU. */
  readonly program: Program | null;
}

interface Figures {
  /** In MB/s. */
  readonly rate: number;
  /** Processor time of QEMU and the program for each packet on the tap, in microseconds. */
  readonly perPacket: number;
  /** The same for each MiB, in milliseconds: packets may be larger. */
  readonly perMebibyte: number;
}

interface Bench {
  readonly folder: string;
  readonly namespace: Namespace;
  readonly guest: Guest;
}

const host = ({ number }: Interface) => `10.81.${number}.1`;
const client = ({ number }: Interface) => `10.81.${number}.2`;

async function startProgram(runtime: string, folder: string, tap: string, namespace: Namespace) {
  const socket = join(folder, tap);
  const command = [launcher("vhost-user-net"), `--tap=${tap}`, `--socket-path=${socket}`];
  const [program, ...args] = namespace.command(...command);
  const env = { RINGSIDE_RUNTIME: runtime };
  return new Program(program!, args, { socket, env }).ready();
}

function deviceOf({ number, program }: Interface): string[] {
  const end =
    program === null
      ? [`tap,id=n${number},ifname=tap${number},script=no,downscript=no,vhost=off`]
      : [`vhost-user,id=n${number},chardev=c${number}`];
  const chardev =
    program === null ? [] : ["-chardev", `socket,id=c${number},path=${program.socket}`];
  const device = `virtio-net-pci,netdev=n${number},mac=52:54:00:00:01:0${number},addr=0x${number + 8}${plain}`;
  return [...chardev, "-netdev", ...end, "-device", device];
}

/** Packets that a tap has carried, both ways. */
function packets(pid: number, { number }: Interface): number {
  const lines = readFileSync(`/proc/${pid}/net/dev`, "utf8").split("\n");
  const line = lines.find((text) => text.trim().startsWith(`tap${number}:`))!;
  const fields = line.split(":")[1]!.trim().split(/\s+/).map(Number);
  return fields[1]! + fields[9]!;
}

/** Runs a transfer, and tells how long it took and what it cost. */
async function measure(
  { guest }: Bench,
  own: Interface,
  transfer: () => Promise<void>,
): Promise<Figures> {
  const pids = own.program === null ? [guest.pid] : [guest.pid, own.program.pid];
  const ticks = () => pids.reduce((total, pid) => total + cpuTicks(pid), 0);
  const before = { ticks: ticks(), packets: packets(guest.pid, own), time: performance.now() };
  await transfer();
  const seconds = (performance.now() - before.time) / 1000;
  const carried = packets(guest.pid, own) - before.packets;
  const cost = (ticks() - before.ticks) * TICK;
  return {
    rate: (mebibytes * 1.048576) / seconds,
    perPacket: cost / carried,
    perMebibyte: cost / 1000 / mebibytes,
  };
}

async function fromGuest(bench: Bench, own: Interface): Promise<Figures> {
  const server = inside(bench.namespace, receive(5000, join(bench.folder, "got"), hostNc));
  await until(10_000, () => listensOn(server.pid, 5000), "nc to listen");
  return measure(bench, own, async () => {
    await bench.guest.run(`nc ${host(own)} 5000 </tmp/data`, { timeoutMs });
    await server.ended;
  });
}

async function toGuest(bench: Bench, own: Interface): Promise<Figures> {
  const receiving = `(${receive(5001, "/tmp/got", "nc")}; touch /tmp/done)`;
  await bench.guest.run(`rm -f /tmp/got /tmp/done; ${receiving} >/dev/null 2>&1 &`);
  await bench.guest.succeeds(listensIn(5001), 10_000, "nc to listen");
  const send = `${hostNc} ${client(own)} 5001 <${join(bench.folder, "data")}`;
  const figures = await measure(bench, own, async () => {
    await inside(bench.namespace, send).ended;
    await bench.guest.succeeds("[ -e /tmp/done ]", timeoutMs, "the guest's nc to end");
  });
  const size = await bench.guest.run("stat -c %s /tmp/got");
  if (Number(size) !== mebibytes * 2 ** 20) throw new Error(`The guest got ${size} bytes`);
  return figures;
}

async function prepare({ guest, folder }: Bench, interfaces: readonly Interface[]): Promise<void> {
  for (const own of interfaces) {
    const find = `$(basename $(dirname $(grep -l 52:54:00:00:01:0${own.number} /sys/class/net/*/address)))`;
    await guest.run(`n=${find}; ip link set $n up; ip address add ${client(own)}/24 dev $n`);
    await guest.run(`ping -c 2 -i 0.2 -W 2 ${host(own)}`);
  }
  await guest.run(`dd if=/dev/zero of=/tmp/data bs=1M count=${mebibytes} 2>/dev/null`);
  writeFileSync(join(folder, "data"), new Uint8Array(mebibytes * 2 ** 20));
}

function report(title: string, interfaces: readonly Interface[], all: Figures[][]): void {
  const own = all.at(-1)!;
  const middle = (figures: Figures[], name: keyof Figures) => median(figures.map((f) => f[name]));
  const rows: Row[] = interfaces.map(({ name }, i) => ({
    interface: name,
    "MB/s, median": middle(all[i]!, "rate").toFixed(1),
    "to QEMU": (middle(all[i]!, "rate") / middle(own, "rate")).toFixed(2),
    "CPU us/packet": middle(all[i]!, "perPacket").toFixed(1),
    "per packet to QEMU": (middle(all[i]!, "perPacket") / middle(own, "perPacket")).toFixed(2),
    "CPU ms/MiB": middle(all[i]!, "perMebibyte").toFixed(1),
    "per MiB to QEMU": (middle(all[i]!, "perMebibyte") / middle(own, "perMebibyte")).toFixed(2),
  }));
  const frames = options.plain ? ", without offloads" : "";
  const how = `${rounds} runs of ${mebibytes} MiB each${frames}`;
  const figures = Object.fromEntries(interfaces.map(({ name }, i) => [name, all[i]]));
  results.section(`TCP ${title}, ${how}`, rows, figures);
}

async function run(folder: string, namespace: Namespace, programs: Program[]): Promise<void> {
  const interfaces: Interface[] = [];
  for (const runtime of [...options.runtimes.split(",").filter(Boolean), null]) {
    const number = interfaces.length;
    namespace.tap(`tap${number}`, `10.81.${number}.1/24`);
    const program =
      runtime === null ? null : await startProgram(runtime, folder, `tap${number}`, namespace);
    if (program !== null) programs.push(program);
    const name = runtime === null ? "QEMU virtio-net" : `ringside, ${runtime}`;
    interfaces.push({ name, number, program });
  }
  const devices = interfaces.flatMap(deviceOf);
  const guest = await bootGuest({ folder, devices, memory: 1024, prefix: namespace.command() });
  try {
    const bench = { folder, namespace, guest };
    await prepare(bench, interfaces);
    for (const [title, transfer] of [
      ["from the guest", fromGuest],
      ["to the guest", toGuest],
    ] as const) {
      const all: Figures[][] = interfaces.map(() => []);
      for (let round = 0; round < rounds; round++) {
        for (const [i, own] of interfaces.entries()) all[i]!.push(await transfer(bench, own));
      }
      report(title, interfaces, all);
    }
  } finally {
    await guest.stop();
  }
}

const results = new Report(options.plain ? "net-guest-plain" : "net-guest");
const problem = labProblem() ?? tapProblem();
if (problem) console.log(`net-guest: ${problem}`);
else {
  const folder = memoryFolder();
  const programs: Program[] = [];
  using namespace = new Namespace();
  try {
    await run(folder, namespace, programs);
    if (!options.quick) results.save();
  } finally {
    for (const program of programs) await program.stop();
    removeFolder(folder);
  }
}
process.exitCode = 0;
