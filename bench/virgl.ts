/**
 * kmscube in a Linux guest of QEMU 10 (TCG) with Mesa's virgl driver, on a card whose renderer works in
 * software: frames per second, and the processor time of a frame in the card's process.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runtime, startDevice } from "../tests/guest/back-end.ts";
import { bootDrawing, startGraphicsDisk } from "../tests/guest/graphics.ts";
import { graphicsProblem } from "../tests/guest/lab.ts";
import { cpuTicks } from "../tests/support/process-status.ts";
import { memoryFolder, removeFolder } from "./lib/files.ts";
import { Report } from "./lib/report.ts";
import { spread } from "./lib/stats.ts";

const { values: options } = parseArgs({
  options: { quick: { type: "boolean", default: false }, runs: { type: "string" } },
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

async function measure(folder: string): Promise<Figure[]> {
  const stops: (() => Promise<unknown>)[] = [];
  try {
    const disk = await startGraphicsDisk(folder);
    stops.push(() => disk.stop());
    const limit = ["--virgl", "--max-hostmem=512M"];
    const card = await startDevice("gpu", join(folder, "gpu.sock"), limit);
    stops.push(() => card.stop());
    const guest = await bootDrawing(folder, disk, [
      ...["-chardev", `socket,id=card,path=${card.socket}`],
      ...["-device", "vhost-user-gpu-pci,id=gpu,chardev=card"],
    ]);
    stops.push(() => guest.stop());
    await guest.prepare();
    await guest.inside("kmscube --count=20");
    const figures: Figure[] = [];
    for (let run = 0; run < runs; run++) {
      const [cardBefore, guestBefore] = [cpuTicks(card.pid), cpuTicks(guest.pid)];
      const said = await guest.inside(`kmscube --count=${FRAMES}`, 300_000);
      const rate = /Rendered \d+ frames in [\d.]+ sec \(([\d.]+) fps\)/.exec(said)?.[1];
      if (rate === undefined) throw new Error(`kmscube failed: ${said.slice(-500)}`);
      figures.push({
        rate: Number(rate),
        card: ((cpuTicks(card.pid) - cardBefore) * TICK) / FRAMES,
        machine: ((cpuTicks(guest.pid) - guestBefore) * TICK) / FRAMES,
      });
    }
    return figures;
  } finally {
    for (const stop of stops.reverse()) await stop().catch(console.error);
  }
}

const problem = graphicsProblem();
if (problem !== null) console.log(`virgl: ${problem}`);
else {
  const report = new Report(`virgl-${runtime}`);
  const folder = join(memoryFolder(), "virgl");
  mkdirSync(folder);
  try {
    const figures = await measure(folder);
    const rate = spread(figures.map((figure) => figure.rate));
    const row = {
      card: `${runtime}, software rendering`,
      "frames/s, median": rate.median.toFixed(1),
      "min - max": `${rate.min.toFixed(1)} - ${rate.max.toFixed(1)}`,
      "card, CPU ms per frame": spread(figures.map(({ card }) => card)).median.toFixed(2),
      "QEMU, CPU ms per frame": spread(figures.map(({ machine }) => machine)).median.toFixed(2),
    };
    report.section(`kmscube at 1280 by 800, ${runs} runs of ${FRAMES} frames`, [row], figures);
    if (!options.quick) report.save();
  } finally {
    removeFolder(join(folder, ".."));
  }
}
process.exit(0);
