/**
 * Processor time that the graphics device takes for a full screen: a transfer of 1280 by 800 pixels
 * and a flush, with the kernel's part of sending them, without the reader's.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { GpuDisplay, GpuDriver, GpuFormat } from "../frontend/mod.ts";
import { PIXEL, picture, Surface } from "../tests/gpu/screen.ts";
import { launcher, Program } from "../tests/support/program.ts";
import { Report, type Row } from "./lib/report.ts";

const { values: options } = parseArgs({ options: { quick: { type: "boolean", default: false } } });
/** The middle one of so many rounds counts: now and then the kernel looks for memory in between. */
const ROUNDS = options.quick ? 1 : 9;
const FRAMES = 120;
const WIDTH = 1280;
const HEIGHT = 800;
/** Milliseconds of a clock tick, in which the kernel counts (USER_HZ). */
const TICK = 10;

/** Milliseconds of processor time that a process has used, its own and the kernel's for it. */
function spent(pid: number): { user: number; system: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { user: Number(fields[11]) * TICK, system: Number(fields[12]) * TICK };
}

/** `piece`: bytes of each piece of guest memory. */
function measure(runtime: string, format: number, piece: number) {
  using program = new Program([launcher("vhost-user-gpu"), "--socket-path=SOCKET"], {
    env: { RINGSIDE_RUNTIME: runtime },
  });
  using display = new GpuDisplay();
  using driver = GpuDriver.connect(program.socket, { display });
  const surface = new Surface(driver, 1, WIDTH, HEIGHT, format, piece);
  surface.paint(picture(WIDTH, HEIGHT));
  surface.setScanout();
  const frame = (): void => {
    surface.show();
    const shown = () =>
      display.messages.reduce((sum, { name, numbers }) => {
        return name === "UPDATE" ? sum + numbers[3]! * numbers[4]! : sum;
      }, 0);
    display.serveUntil(() => shown() >= WIDTH * HEIGHT, "whole screen");
    display.messages.length = 0;
  };
  const round = () => {
    const before = spent(program.pid);
    for (let i = 0; i < FRAMES; i++) frame();
    const after = spent(program.pid);
    const user = (after.user - before.user) / FRAMES;
    const system = (after.system - before.system) / FRAMES;
    return { user, system, total: user + system };
  };
  round();
  return Array.from({ length: ROUNDS }, round).sort((a, b) => a.total - b.total);
}

/** The format of Linux' consoles and desktops, which needs no work for each pixel. */
const TARGETED = "B8G8R8X8";
const cases = [
  { name: "B8G8R8X8, pages", format: GpuFormat.B8G8R8X8, piece: 4096 },
  { name: "B8G8R8X8, one piece", format: GpuFormat.B8G8R8X8, piece: WIDTH * HEIGHT * PIXEL },
  { name: "R8G8B8X8, pages", format: GpuFormat.R8G8B8X8, piece: 4096 },
];

const figures = ["bun", "deno"].flatMap((runtime) =>
  cases.map(({ name, format, piece }) => ({
    runtime,
    name,
    rounds: measure(runtime, format, piece),
  })),
);
const rows: Row[] = figures.map(({ runtime, name, rounds }) => {
  const { user, system, total } = rounds[Math.floor(rounds.length / 2)]!;
  return {
    "guest memory": `${runtime}, ${name}`,
    "user ms": user.toFixed(2),
    "system ms": system.toFixed(2),
    "ms per screen": total.toFixed(2),
    "min - max": `${rounds[0]!.total.toFixed(2)} - ${rounds.at(-1)!.total.toFixed(2)}`,
    target: name.startsWith(TARGETED) ? `<= 2: ${total <= 2 ? "met" : "MISSED"}` : "",
  };
});
const report = new Report("gpu");
const title = "Graphics: processor time of a full screen of 1280 by 800";
report.section(`${title}, ${ROUNDS} rounds of ${FRAMES} screens`, rows, figures);
if (!options.quick) report.save();
