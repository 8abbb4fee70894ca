/** The pictures of docs/, which tests make: `npm run docs:pictures`. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encode } from "fast-png";
import { repository } from "./lab.ts";
import type { Picture } from "./pnm.ts";

export const wantsPictures: boolean = process.env.RINGSIDE_PICTURES === "1";

/** Saves a PNG file as a picture of docs/. */
export function savePicture(name: string, png: Uint8Array): void {
  const folder = join(repository, "docs", "pictures");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.png`), png);
}

/** What QEMU shows, as a PNG file. */
export function encodePicture({ width, height, pixels }: Picture): Uint8Array {
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    data[to] = pixels[from + 2]!;
    data[to + 1] = pixels[from + 1]!;
    data[to + 2] = pixels[from]!;
  }
  return encode({ width, height, data, channels: 3 });
}
