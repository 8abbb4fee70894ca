/**
 * The block program under whole guests, against qemu-storage-daemon: fio in a Linux guest of QEMU (TCG),
 * and dd in User-Mode Linux. Each guest has a disk from every back-end, and uses them in turns.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Channel } from "../tests/guest/channel.ts";
import { librariesOf, withPrograms } from "../tests/guest/extra-files.ts";
import { bootGuest } from "../tests/guest/guest.ts";
import { labProblem } from "../tests/guest/lab.ts";
import { bootUml } from "../tests/guest/uml.ts";
import type { Program } from "../tests/tools/process.ts";
import { type Contender, launch, qemu, ringside } from "./lib/contenders.ts";
import { fillFile, memoryFolder, removeFolder } from "./lib/files.ts";
import { Report, type Row } from "./lib/report.ts";
import { type Spread, spread } from "./lib/stats.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    runs: { type: "string" },
    time: { type: "string" },
    runtimes: { type: "string", default: "bun,deno" },
  },
});
/** Guests are at their hosts' mercy: many short runs in turns tell more than few long ones. */
const rounds = Number(options.runs ?? (options.quick ? 1 : 15));
const seconds = Number(options.time ?? 1);
const MIB = 2 ** 20;
const DISK_MIB = 256;
const READ_MIB = 128;

/** A way to use disks: `measure` tells how much one of them does. */
interface Work {
  readonly title: string;
  readonly unit: string;
  /** Boots a guest whose disks come from these sockets. */
  boot(folder: string, sockets: readonly string[]): Promise<Booted>;
  /** `disk`: its name in the guest. */
  measure(guest: Channel, disk: string): Promise<number>;
}

interface Booted extends Channel {
  stop(): Promise<void>;
}

/** The program and all libraries that it is linked with, for a file system that has none. */
function fioFiles(): Record<string, string> | null {
  const found = spawnSync("sh", ["-c", "command -v fio"], { encoding: "utf8" }).stdout.trim();
  if (found === "") return null;
  return { fio: found, ...librariesOf(found) };
}

function fio(files: Record<string, string>): Work {
  const run = "LD_LIBRARY_PATH=/extra /extra/loader /extra/fio --minimal --name=bench";
  const load = "--rw=randread --bs=4k --iodepth=32 --ioengine=libaio --direct=1 --time_based";
  return {
    title: "fio in a guest of QEMU 10 (TCG, one processor): random reads of 4 KiB, depth 32",
    unit: "kIOPS",
    boot(folder, sockets) {
      const devices = sockets.flatMap((socket, i) => [
        ...["-chardev", `socket,id=c${i},path=${socket}`],
        ...["-device", `vhost-user-blk-pci,chardev=c${i},num-queues=1`],
      ]);
      const initrd = withPrograms(folder, files);
      return bootGuest({ folder, devices, initrd, processors: 1, memory: 1024 });
    },
    async measure(guest, disk) {
      const command = `${run} ${load} --filename=/dev/${disk} --ramp_time=1 --runtime=${seconds}`;
      const line = await guest.run(command, { timeoutMs: (seconds + 30) * 1000 });
      // Fields of the terse format: version, fio's version, job, group, error, KiB read, KiB/s, IOPS.
      const fields = /^3;.*$/m.exec(line)?.[0].split(";") ?? [];
      if (fields[4] !== "0") throw new Error(`fio failed: ${line}`);
      return Number(fields[7]) / 1000;
    },
  };
}

const userModeLinux: Work = {
  title: "dd in User-Mode Linux: reads of 64 KiB past its page cache",
  unit: "MiB/s",
  boot: (folder, sockets) =>
    bootUml({ folder, devices: sockets.map((socket) => ({ socket, virtioId: 2 })) }),
  async measure(guest, disk) {
    const command = `dd if=/dev/${disk} of=/dev/null bs=64k count=${READ_MIB * 16} iflag=direct 2>/dev/null`;
    const begun = performance.now();
    await guest.run(command, { timeoutMs: 60_000 });
    return READ_MIB / ((performance.now() - begun) / 1000);
  },
};

function toRow({ name, ours }: Contender, figure: Spread, best: number, unit: string): Row {
  const ratio = figure.median / best;
  return {
    "back-end": name,
    [`${unit}, median`]: figure.median.toFixed(2),
    "min - max": `${figure.min.toFixed(2)} - ${figure.max.toFixed(2)}`,
    "to best peer": ratio.toFixed(2),
    target: ours ? `0.95: ${ratio >= 0.95 ? "met" : "MISSED"}` : "",
  };
}

async function compare(work: Work, report: Report): Promise<void> {
  const contenders = [
    ...options.runtimes.split(",").map((runtime) => ringside(runtime)),
    ...qemu(["threads", "io_uring"]),
  ];
  const folder = memoryFolder();
  const programs: Program[] = [];
  let guest: Booted | null = null;
  try {
    const file = join(folder, "disk.img");
    fillFile(file, DISK_MIB * MIB);
    for (const [i, contender] of contenders.entries()) {
      programs.push(await launch(contender, join(folder, `${i}.sock`), file));
    }
    guest = await work.boot(
      folder,
      programs.map(({ socket }) => socket),
    );
    const runs: number[][] = contenders.map(() => []);
    for (let round = 0; round < rounds; round++) {
      for (const [i, figures] of runs.entries()) {
        figures.push(await work.measure(guest, `vd${"abcdefgh"[i]}`));
      }
    }
    const figures = runs.map(spread);
    const best = Math.max(...figures.filter((_, i) => !contenders[i]!.ours).map((f) => f.median));
    report.section(
      `${work.title}, ${rounds} runs`,
      contenders.map((contender, i) => toRow(contender, figures[i]!, best, work.unit)),
      Object.fromEntries(contenders.map(({ name }, i) => [name, runs[i]])),
    );
  } finally {
    await guest?.stop();
    for (const program of programs) await program.stop().catch(console.error);
    removeFolder(folder);
  }
}

const report = new Report("guest");
const problem = labProblem();
const files = fioFiles();
if (problem !== null) console.log(`guest: ${problem}`);
else {
  if (files === null) console.log("guest: no fio, which is a package of that name");
  else await compare(fio(files), report);
  await compare(userModeLinux, report);
  if (!options.quick) report.save();
}
process.exit(0);
