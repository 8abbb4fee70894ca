/** Memory of the block program over minutes of load: it must not grow. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ownSize, residentSize } from "../tests/support/process-status.ts";
import { startBlk } from "../tests/tools/process.ts";
import { runVublk } from "../tests/tools/vublk.ts";
import { fillFile, memoryFolder, removeFolder } from "./lib/files.ts";
import { Report, type Row } from "./lib/report.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    time: { type: "string" },
    runtimes: { type: "string", default: "bun,deno" },
  },
});
const minutes = Number(options.time ?? (options.quick ? 0.05 : 10));
const SAMPLES = 10;
const DISK_SIZE = 256 * 2 ** 20;

/** MiB: the process's own memory, and all that is resident, guest memory included. */
interface Sample {
  readonly minute: number;
  readonly own: number;
  readonly resident: number;
}

function sample(pid: number, minute: number): Sample {
  return { minute, own: ownSize(pid) / 1024, resident: residentSize(pid) / 1024 };
}

async function measure(runtime: string, folder: string, file: string) {
  const program = await startBlk(runtime, join(folder, `${runtime}.sock`), file);
  try {
    const seconds = minutes * 60;
    const load = ["-w", "mixed", "-d", "32", "-t", `${seconds}`, "-F", "1000"];
    const run = runVublk(program.socket, load, { limit: seconds + 30 });
    const samples: Sample[] = [];
    for (let i = 1; i <= SAMPLES; i++) {
      await sleep((seconds * 1000) / SAMPLES);
      samples.push(sample(program.pid, (minutes * i) / SAMPLES));
    }
    const { done, failed } = await run;
    if (failed > 0) throw new Error(`${failed} requests failed: ${program.stderr}`);
    return { samples, done };
  } finally {
    await program.stop();
  }
}

const folder = memoryFolder();
try {
  const file = join(folder, "disk.img");
  fillFile(file, DISK_SIZE);
  const report = new Report("endurance");
  for (const runtime of options.runtimes.split(",").filter(Boolean)) {
    const { samples, done } = await measure(runtime, folder, file);
    const rows: Row[] = samples.map(({ minute, own, resident }) => ({
      minute: minute.toFixed(1),
      "own memory, MiB": own.toFixed(1),
      "resident, MiB": resident.toFixed(1),
    }));
    const millions = (done / 1e6).toFixed(1);
    report.section(
      `Memory under ${runtime} while ${millions} million mixed requests are served at queue depth 32`,
      rows,
      samples,
    );
  }
  if (!options.quick) report.save();
} finally {
  removeFolder(folder);
}
process.exit(0);
