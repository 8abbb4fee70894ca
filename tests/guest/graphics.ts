/** A guest with Mesa's driver: a Debian on a disk of our own, which draws with a card of our own. */
import { join } from "node:path";
import { type BackEnd, startBlk } from "./back-end.ts";
import { type GraphicalGuest, graphicalInitrd, graphicalKernel, screenOf } from "./gpu.ts";
import { bootGuest } from "./guest.ts";
import { lab } from "./lab.ts";
import { type Picture, readPixmap } from "./pnm.ts";
import { until } from "./wait.ts";

export interface DrawingGuest extends GraphicalGuest {
  /** Mounts the disk, and loads the driver. Once after each boot. */
  prepare(): Promise<void>;
  /** Runs a command of that Debian. Returns its output, whatever its status is. */
  inside(command: string, timeoutMs?: number): Promise<string>;
  /** Starts one and does not wait. Its output goes to this file. */
  starts(command: string, output: string): Promise<void>;
}

/** Serves the disk. Nothing writes to it. */
export function startGraphicsDisk(folder: string): Promise<BackEnd> {
  return startBlk(join(folder, "graphics.sock"), { file: lab.graphics, readOnly: true });
}

/** Boots a guest with the disk and a card, `id=gpu`. `card`: QEMU arguments. */
export async function bootDrawing(
  folder: string,
  disk: BackEnd,
  card: readonly string[],
): Promise<DrawingGuest> {
  const devices = [
    ...["-chardev", `socket,id=disk,path=${disk.socket}`],
    ...["-device", "vhost-user-blk-pci,chardev=disk,num-queues=1", ...card],
  ];
  const kernelArguments = graphicalKernel;
  const initrd = graphicalInitrd(folder);
  const guest = await bootGuest({ folder, devices, initrd, kernelArguments, memory: 1024 });
  const look = async (): Promise<Picture> => {
    const file = join(folder, "screen.ppm");
    await guest.execute("screendump", { filename: file, device: "gpu" });
    return readPixmap(file);
  };
  const screen = screenOf(guest, look);
  // A program that draws on the screen ends when its input does: this has none, and no end.
  const fed = (command: string) => `chroot /mnt /usr/bin/${command} <>/tmp/idle`;
  return {
    ...guest,
    ...screen,
    async prepare() {
      await screen.loadDriver();
      const binds = "for d in dev proc sys; do mount -o bind /$d /mnt/$d || exit 1; done";
      await guest.run(`mount -t ext4 -o ro /dev/vda /mnt && ${binds}`);
      await guest.run("mount -t tmpfs tmp /mnt/tmp && mkfifo /tmp/idle");
    },
    inside: (command, timeoutMs = 60_000) => guest.run(`${fed(command)} 2>&1; true`, { timeoutMs }),
    async starts(command, output) {
      await guest.run(`(${fed(command)} >${output} 2>&1 &)`);
    },
  };
}

type Color = readonly number[];

/** The screen is looked at in squares, 8 by 8 of them. */
const SQUARES = 8;

/** Mean colours of the squares of a picture, from the left top corner to the right bottom one. */
export function colorsOf({ width, height, pixels }: Picture): Color[] {
  const [across, down] = [width / SQUARES, height / SQUARES];
  return Array.from({ length: SQUARES * SQUARES }, (_, i) => {
    const [left, top] = [(i % SQUARES) * across, Math.floor(i / SQUARES) * down];
    const sum = [0, 0, 0];
    let count = 0;
    for (let y = Math.floor(top); y < top + down; y += 7) {
      for (let x = Math.floor(left); x < left + across; x += 7) {
        for (let part = 0; part < 3; part++) sum[part]! += pixels[(y * width + x) * 4 + part]!;
        count++;
      }
    }
    return sum.map((value) => Math.round(value / count));
  });
}

/** Waits until the screen has what kmscube draws: a coloured cube in the middle, grey around it. */
export function showsCube(guest: Pick<DrawingGuest, "look">): Promise<Picture> {
  const grey = (color: Color) => color.every((value) => Math.abs(value - 128) < 3);
  const colored = (color: Color) => Math.max(...color) - Math.min(...color) > 40;
  const probe = async () => {
    const picture = await guest.look();
    const colors = colorsOf(picture);
    const border = colors.filter((_, i) => i % 8 === 0 || i % 8 === 7 || i < 8 || i >= 56);
    const middle = [27, 28, 35, 36].map((i) => colors[i]!);
    return border.every(grey) && middle.filter(colored).length >= 2 ? picture : null;
  };
  return until(30_000, probe, "a cube on the screen");
}
