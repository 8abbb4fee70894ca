/** What one viewer knows of an output, and what it does not know yet. */
import type { Scanout } from "../scanouts.ts";
import { PIXEL } from "../wire.ts";
import { DirtyRegion } from "./dirty-region.ts";

/** Rows of an output, in pixels. */
export interface Band {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly rows: number;
  /** Of all their pixels. */
  readonly bytes: number;
}

export class Shown {
  readonly scanout: Scanout;
  /** The size that it was told; 0 for none. */
  width = 0;
  height = 0;
  /** Pixels that it has not got. */
  readonly dirty = new DirtyRegion();
  cursorMoved = false;
  cursorPainted = false;

  /** All that the output shows is news. */
  constructor(scanout: Scanout) {
    this.scanout = scanout;
    if (scanout.enabled) this.changed();
    if (scanout.cursor.picture !== null) this.cursorChanged(true);
  }

  /** The output has another size than the viewer was told. */
  get resized(): boolean {
    return this.width !== this.scanout.width || this.height !== this.scanout.height;
  }

  /** The output shows something else. */
  changed(): void {
    const { width, height } = this.scanout;
    this.dirty.clear();
    if (width > 0) this.dirty.add(0, 0, width, height);
  }

  /** The cursor has another place, and another picture as well if `picture`. */
  cursorChanged(picture: boolean): void {
    this.cursorMoved = true;
    if (picture) this.cursorPainted = true;
  }

  /** The viewer is told the size. */
  tellSize(): void {
    this.width = this.scanout.width;
    this.height = this.scanout.height;
  }

  /** The viewer is told of the cursor. Returns true when it needs its picture. */
  tellCursor(): boolean {
    const { visible, picture } = this.scanout.cursor;
    this.cursorMoved = false;
    if (!this.cursorPainted || !visible || picture === null) return false;
    this.cursorPainted = false;
    return true;
  }

  /** What the viewer gets next: as many rows of a dirty rectangle, of which there is one, as `room` bytes take. */
  nextBand(room: number): Band {
    const { dirty } = this;
    const last = dirty.count - 1;
    const x = dirty.left(last);
    const y = dirty.top(last);
    const width = dirty.right(last) - x;
    const rows = Math.min(dirty.bottom(last) - y, Math.floor(room / (width * PIXEL)));
    return { x, y, width, rows, bytes: rows * width * PIXEL };
  }

  /** The viewer is told of that band, whose pixels are put at byte `at` of `target`. */
  tellBand({ x, y, width, rows }: Band, target: Uint8Array, at: number): void {
    const { scanout } = this;
    const { bytes, stride } = scanout.image!;
    const length = width * PIXEL;
    const from = (scanout.y + y) * stride + (scanout.x + x) * PIXEL;
    if (length === stride) target.set(bytes.subarray(from, from + rows * stride), at);
    else {
      for (let row = 0; row < rows; row++) {
        const start = from + row * stride;
        target.set(bytes.subarray(start, start + length), at + row * length);
      }
    }
    this.dirty.shorten(rows);
  }
}
