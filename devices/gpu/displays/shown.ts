/** What one viewer knows of an output, and what it does not know yet. */
import type { Scanout } from "../scanouts.ts";
import { DirtyRegion } from "./dirty-region.ts";

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
}
