/** Pictures that QEMU writes (portable pixmaps), as bytes of pixels like a guest's. */
import { readFileSync } from "node:fs";

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** B8G8R8X8 with X of 0, rows one after another. */
  readonly pixels: Buffer;
}

/** Reads a binary portable pixmap with 8 bits per colour. */
export function readPixmap(path: string): Picture {
  const file = readFileSync(path);
  const header = /^P6\s(\d+)\s(\d+)\s255\s/.exec(file.subarray(0, 64).toString("latin1"));
  if (header === null) throw new Error(`${path} is no portable pixmap`);
  const [width, height] = [Number(header[1]), Number(header[2])];
  const colours = file.subarray(header[0].length);
  if (colours.length !== width * height * 3) throw new Error(`${path} has ${file.length} bytes`);
  const pixels = Buffer.alloc(width * height * 4);
  for (let from = 0, to = 0; from < colours.length; from += 3, to += 4) {
    pixels[to] = colours[from + 2]!;
    pixels[to + 1] = colours[from + 1]!;
    pixels[to + 2] = colours[from]!;
  }
  return { width, height, pixels };
}
