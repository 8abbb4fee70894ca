/** The cursor of one scanout (virtio 1.3, 5.7.6.10). */
import { CURSOR_SIDE, PIXEL } from "./wire.ts";

export class CursorState {
  readonly scanout: number;
  x = 0;
  y = 0;
  visible = false;
  hotX = 0;
  hotY = 0;
  /** 64 rows of 64 pixels, B8G8R8A8; null as long as it has no picture. */
  picture: Uint8Array | null = null;

  constructor(scanout: number) {
    this.scanout = scanout;
  }

  /** Takes a copy of a picture of the right size. */
  setPicture(bytes: Uint8Array, hotX: number, hotY: number): void {
    this.picture ??= new Uint8Array(CURSOR_SIDE * CURSOR_SIDE * PIXEL);
    this.picture.set(bytes);
    this.hotX = hotX;
    this.hotY = hotY;
  }

  clear(): void {
    this.x = 0;
    this.y = 0;
    this.visible = false;
    this.picture = null;
  }
}
