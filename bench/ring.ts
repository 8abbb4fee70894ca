/**
 * Walking a ring: our queues and chain against a C loop with the same checks on a split ring, in
 * turns. One figure is the time of one request of three descriptors (16-byte header,
 * 4 KiB of data, status) from the available ring to the used ring, without touching the data.
 */
import { once } from "node:events";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { runtime } from "../ffi/mod.ts";
import { Report } from "./lib/report.ts";
import type { CaseFigures, CaseOptions } from "./lib/ring-worker.ts";
import type { Spread } from "./lib/stats.ts";

const { values: options } = parseArgs({ options: { quick: { type: "boolean", default: false } } });
const rounds = options.quick ? 3 : 9;
/** Nanoseconds of measuring per round and side. */
const slice = options.quick ? 50e6 : 300e6;

/** The largest ratio to the C loop that the design allows. */
const TARGET = 2.5;

interface Case extends CaseFigures {
  readonly name: string;
  readonly look?: boolean;
  readonly packed?: boolean;
}

/**
 * Measures in a Worker of its own, whose code is compiled for what this case does. One after another
 * in one thread, each would run what was optimized for those before it.
 */
async function compare(name: string, wanted: Omit<CaseOptions, "rounds" | "slice">): Promise<Case> {
  const workerData: CaseOptions = { rounds, slice, ...wanted };
  const worker = new Worker(new URL("lib/ring-worker.ts", import.meta.url), { workerData });
  const [figures] = (await once(worker, "message")) as [CaseFigures];
  await worker.terminate();
  return { name, ...wanted, ...figures };
}

const cases = [
  await compare("direct", {}),
  await compare("indirect", { indirect: true }),
  await compare("direct, with header and status", { look: true }),
  await compare("indirect, with header and status", { indirect: true, look: true }),
  await compare("packed, direct", { packed: true }),
  await compare("packed, indirect", { packed: true, indirect: true }),
  await compare("packed, direct, with header and status", { packed: true, look: true }),
  await compare("packed, indirect, with header and status", {
    packed: true,
    indirect: true,
    look: true,
  }),
];
const show = ({ median, min, max }: Spread) =>
  `${median.toFixed(1)} (${min.toFixed(1)} - ${max.toFixed(1)})`;
const report = new Report(`ring-${runtime.name}`);
report.section(
  `Ring walking under ${runtime.name} ${runtime.version}, ns per request of 3 descriptors, ` +
    `median (min - max) of ${rounds}`,
  cases.map((row) => ({
    ring: row.name,
    ours: show(row.ours),
    "C loop": show(row.c),
    ratio: row.ratio.median.toFixed(2),
    // The rest is for information: the target is about walking what the C loop walks.
    [`target <= ${TARGET}`]:
      row.look || row.packed ? "" : row.ratio.median <= TARGET ? "met" : "MISSED",
  })),
  cases,
);
if (!options.quick) report.save();
