/** What a guest with a graphics card does in tests: it draws, writes text and is looked at. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { kernelModules, withPrograms } from "./extra-files.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { type Picture, readPixmap } from "./pnm.ts";
import { until } from "./wait.ts";

/** What QEMU proposes to a driver. */
export const SIZE: { readonly width: number; readonly height: number } = {
  width: 1280,
  height: 800,
};

/** A drawing in which no two places look alike, as bytes of /dev/fb0. */
export function drawing(seed: number, { width, height } = SIZE): Buffer {
  const pixels = new Uint32Array(width * height);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = Math.imul(i + 1 + seed * 7919, 0x9e3779b1) & 0xffffff;
  }
  return Buffer.from(pixels.buffer);
}

/** What is done with a screen, from within the guest and from outside. */
export interface Screen {
  /** Loads the driver, after a boot. */
  loadDriver(): Promise<void>;
  /** Fills /dev/fb0 with one of the drawings 0 and 1. */
  draw(which: 0 | 1): Promise<void>;
  /** Puts text on the console and nothing else. */
  write(text: string): Promise<void>;
  /** What QEMU shows. */
  look(): Promise<Picture>;
  /** Waits until QEMU shows that. */
  shows(pixels: Buffer): Promise<void>;
}

export interface GraphicalGuest extends Guest, Screen {}

/** A text cursor that blinks would make two pictures of one. */
export const graphicalKernel = "vt.global_cursor_default=0";

const modules = () => kernelModules("virtio-gpu");

/** Makes an initial file system with the driver, the drawings and `programs`. Returns its path, in `folder`. */
export function graphicalInitrd(
  folder: string,
  programs: Readonly<Record<string, string>> = {},
): string {
  for (const which of [0, 1]) writeFileSync(join(folder, `drawing-${which}`), drawing(which));
  const drawings = Object.fromEntries(
    [0, 1].map((which) => [`drawing-${which}`, join(folder, `drawing-${which}`)]),
  );
  return withPrograms(folder, { ...modules(), ...drawings, ...programs });
}

/** The screen of a guest with that file system. `look` takes its picture. */
export function screenOf({ run }: Pick<Guest, "run">, look: Screen["look"]): Screen {
  const load = Object.keys(modules()).map((name) => `insmod /extra/${name} 2>/dev/null`);
  const console = "for t in /sys/class/vtconsole/vtcon1/bind; do [ ! -e $t ] ||";
  return {
    async loadDriver() {
      await run(`${load.join("; ")}; [ -e /dev/fb0 ]`, { timeoutMs: 60_000 });
    },
    async draw(which) {
      await run(`${console} echo 0 >$t; done; cat /extra/drawing-${which} >/dev/fb0`);
    },
    async write(text) {
      const clear = "\\033[2J\\033[H";
      await run(`${console} echo 1 >$t; done; printf '${clear}${text}\\n' >/dev/tty1`);
    },
    look,
    async shows(pixels) {
      let last: Picture | null = null;
      const same = async () => {
        last = await look();
        return last.pixels.equals(pixels) ? true : null;
      };
      await until(20_000, same, "the screen to show what the guest drew").catch((error) => {
        throw new Error(`${error.message} (${last?.width} by ${last?.height})`);
      });
    },
  };
}

/** Boots a guest with a card, `id=gpu`. `devices`: QEMU arguments. */
export async function bootGraphical(
  folder: string,
  devices: string[],
  programs: Readonly<Record<string, string>> = {},
): Promise<GraphicalGuest> {
  const initrd = graphicalInitrd(folder, programs);
  const guest = await bootGuest({ folder, devices, initrd, kernelArguments: graphicalKernel });
  const look = async () => {
    const file = join(folder, "screen.ppm");
    await guest.execute("screendump", { filename: file, device: "gpu" });
    return readPixmap(file);
  };
  return { ...guest, ...screenOf(guest, look) };
}
