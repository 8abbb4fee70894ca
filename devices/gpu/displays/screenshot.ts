/** Pictures of the screen as PNG files. */
import { renameSync, rmSync, writeFileSync } from "node:fs";
import type { Log } from "../../../core/log.ts";
import type { Scanout, Scanouts } from "../scanouts.ts";

type Encode = typeof import("fast-png").encode;

const RGB = 3;
/** Of deflate: 0.1 s for a screen instead of 0.3 s, while the guest waits. */
const COMPRESSION = 3;

export class Screenshot {
  readonly #path: string;
  readonly #encode: Encode;
  readonly #log: Log;

  private constructor(path: string, encode: Encode, log: Log) {
    this.#path = path;
    this.#encode = encode;
    this.#log = log;
  }

  /** Loads the encoder, which the end of the program leaves no time for. */
  static async prepare(path: string, log: Log): Promise<Screenshot> {
    const { encode } = await import("fast-png");
    return new Screenshot(path, encode, log);
  }

  /**
   * Writes a file per output that shows something: the first one's has the name, `screen.png`, that of
   * output 2 is `screen-2.png`. Whoever reads them never sees half of one.
   */
  save({ all }: Scanouts): void {
    for (const scanout of all) {
      if (scanout.image === null) continue;
      const path = scanout.index === 0 ? this.#path : numbered(this.#path, scanout.index);
      const unfinished = `${path}.part`;
      try {
        writeFileSync(unfinished, this.#picture(scanout));
        renameSync(unfinished, path);
        this.#log.info(`Saved the screen to ${path}`);
      } catch (error) {
        rmSync(unfinished, { force: true });
        this.#log.error("Cannot save the screen", { reason: (error as Error).message });
      }
    }
  }

  #picture({ image, x, y, width, height }: Scanout): Uint8Array {
    const { pixels, width: pitch } = image!;
    const data = new Uint8Array(width * height * RGB);
    let to = 0;
    for (let row = 0; row < height; row++) {
      const from = (y + row) * pitch + x;
      for (let i = from; i < from + width; i++) {
        const pixel = pixels[i]!;
        data[to++] = pixel >>> 16;
        data[to++] = pixel >>> 8;
        data[to++] = pixel;
      }
    }
    const options = { zlib: { level: COMPRESSION } } as const;
    return this.#encode({ width, height, data, channels: RGB, depth: 8 }, options);
  }
}

function numbered(path: string, index: number): string {
  const end = path.toLowerCase().endsWith(".png") ? -4 : path.length;
  return `${path.slice(0, end)}-${index}${end < 0 ? path.slice(end) : ".png"}`;
}
