/**
 * kmscube in a Linux guest of QEMU 10 (TCG) with Mesa's virgl driver, on a card whose renderer works in
 * software: frames per second, and the processor time of a frame. `--own=DISPLAY` compares QEMU's own card,
 * where QEMU has it: a display as sdl,gl=on, and its module for OpenGL.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runtime, startDevice } from "../tests/guest/back-end.ts";
import { bootDrawing, startGraphicsDisk } from "../tests/guest/graphics.ts";
import { graphicsProblem } from "../tests/guest/lab.ts";
import { cpuTicks } from "../tests/support/process-status.ts";
import { memoryFolder, removeFolder } from "./lib/files.ts";
import { Report, type Row } from "./lib/report.ts";
import { spread } from "./lib/stats.ts";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    runs: { type: "string" },
    own: { type: "string" },
  },
});
const FRAMES = options.quick ? 100 : 1000;
const runs = Number(options.runs ?? (options.quick ? 1 : 5));

/** Milliseconds of a clock tick, in which the kernel counts (USER_HZ). */
const TICK = 10;

/** What one run of kmscube comes to: frames per second, and milliseconds of processors per frame. */
interface Figure {
  readonly rate: number;
  readonly card: number;
  readonly machine: number;
}

/** A card of a guest: QEMU arguments, and its process unless it is QEMU's own. */
interface Card {
  readonly args: readonly string[];
  readonly pid: number | null;
  stop(): Promise<unknown>;
}

async function ours(folder: string): Promise<Card> {
  const limit = ["--virgl", "--max-hostmem=512M"];
  const { socket, pid, stop } = await startDevice("gpu", join(folder, "gpu.sock"), limit);
  const chardev = ["-chardev", `socket,id=card,path=${socket}`];
  return { args: [...chardev, "-device", "vhost-user-gpu-pci,id=gpu,chardev=card"], pid, stop };
}

/** QEMU's own card, which needs a display that does OpenGL. */
const qemus = async (display: string): Promise<Card> => ({
  args: ["-display", display, "-device", "virtio-gpu-gl-pci,id=gpu"],
  pid: null,
  stop: async () => {},
});

async function measure(folder: string, make: (folder: string) => Promise<Card>): Promise<Figure[]> {
  const stops: (() => Promise<unknown>)[] = [];
  try {
    const disk = await startGraphicsDisk(folder);
    stops.push(() => disk.stop());
    const card = await make(folder);
    stops.push(() => card.stop());
    const guest = await bootDrawing(folder, disk, card.args);
    stops.push(() => guest.stop());
    await guest.prepare();
    await guest.inside("kmscube --count=20");
    const figures: Figure[] = [];
    const spent = () => [card.pid === null ? 0 : cpuTicks(card.pid), cpuTicks(guest.pid)] as const;
    for (let run = 0; run < runs; run++) {
      const before = spent();
      const said = await guest.inside(`kmscube --count=${FRAMES}`, 300_000);
      const after = spent();
      const rates = [...said.matchAll(/Rendered \d+ frames in [\d.]+ sec \(([\d.]+) fps\)/g)];
      if (rates.length === 0) throw new Error(`kmscube failed: ${said.slice(-500)}`);
      figures.push({
        // It tells the figure of all that came so far, now and then.
        rate: Number(rates.at(-1)![1]),
        card: ((after[0] - before[0]) * TICK) / FRAMES,
        machine: ((after[1] - before[1]) * TICK) / FRAMES,
      });
    }
    return figures;
  } finally {
    for (const stop of stops.reverse()) await stop().catch(console.error);
  }
}

function toRow(name: string, figures: readonly Figure[]): Row {
  const rate = spread(figures.map((figure) => figure.rate));
  const card = spread(figures.map((figure) => figure.card)).median;
  const machine = spread(figures.map((figure) => figure.machine)).median;
  return {
    card: name,
    "frames/s, median": rate.median.toFixed(1),
    "min - max": `${rate.min.toFixed(1)} - ${rate.max.toFixed(1)}`,
    "CPU ms per frame, card": card === 0 ? "in QEMU" : card.toFixed(2),
    "CPU ms per frame, QEMU": machine.toFixed(2),
  };
}

const problem = graphicsProblem();
if (problem !== null) console.log(`virgl: ${problem}`);
else {
  const report = new Report(`virgl-${runtime}`);
  const root = memoryFolder();
  const place = (name: string): string => {
    mkdirSync(join(root, name));
    return join(root, name);
  };
  try {
    const figures: Record<string, Figure[]> = { [runtime]: await measure(place("ours"), ours) };
    const { own } = options;
    if (own !== undefined) {
      figures[`QEMU's virtio-gpu-gl, ${own}`] = await measure(place("own"), () => qemus(own));
    }
    const rows = Object.entries(figures).map(([name, all]) => toRow(name, all));
    const title = `3D under ${runtime}: kmscube at 1280 by 800, ${runs} runs of ${FRAMES} frames`;
    report.section(title, rows, figures);
    if (!options.quick) report.save();
  } finally {
    removeFolder(root);
  }
}
process.exit(0);
