/** What each output shows: part of an image (virtio 1.3, 5.7.6.8). */
import { CursorState } from "./cursor.ts";
import type { Display } from "./display.ts";
import type { HostMemory } from "./host-memory.ts";
import type { Image } from "./image.ts";
import type { Resource } from "./resources.ts";

/** A rectangle, in pixels. One that is read of a command is used until the next command. */
export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** How a blob is laid out where it is shown as an image. */
export interface BlobView {
  /** The `Order` of its pixels. */
  readonly order: number;
  /** Of the first pixel, in bytes. */
  readonly offset: number;
  /** Bytes from row to row. */
  readonly stride: number;
}

export class Scanout {
  readonly index: number;
  readonly cursor: CursorState;
  resource: Resource | null = null;
  /** What is shown: the resource's own image, or a copy of the blob or texture. Null when nothing is. */
  image: Image | null = null;
  /** The copy of a texture has yet to be made. */
  stale = false;
  /** Set for a blob. */
  blob: BlobView | null = null;
  /** The part of the image that is shown. */
  x = 0;
  y = 0;
  width = 0;
  height = 0;

  constructor(index: number) {
    this.index = index;
    this.cursor = new CursorState(index);
  }

  get enabled(): boolean {
    return this.image !== null;
  }
}

export class Scanouts {
  readonly all: readonly Scanout[];
  /** Those that learn of changes. */
  readonly displays = new Set<Display>();
  readonly #memory: HostMemory;

  /** Gives the memory of images that are copies back to `memory`. */
  constructor(count: number, memory: HostMemory) {
    this.#memory = memory;
    this.all = Array.from({ length: count }, (_, i) => new Scanout(i));
  }

  /** Undefined for an index that there is not. */
  get(index: number): Scanout | undefined {
    return this.all[index];
  }

  /** Shows part of an image, which the scanout owns unless it is the resource's own. */
  show(
    scanout: Scanout,
    resource: Resource,
    image: Image,
    part: Rect,
    blob: BlobView | null,
  ): void {
    const { x, y, width, height } = part;
    const same = scanout.image === image && scanout.x === x && scanout.y === y;
    const unchanged = same && scanout.width === width && scanout.height === height;
    // The same image may be a copy of something else by now.
    if (unchanged && image === resource.image) return;
    if (scanout.image !== image) this.#release(scanout);
    scanout.resource = resource;
    scanout.image = image;
    scanout.blob = blob;
    scanout.stale = resource.texture !== null && image !== resource.image;
    scanout.x = x;
    scanout.y = y;
    scanout.width = width;
    scanout.height = height;
    for (const display of this.displays) display.scanoutChanged(scanout);
  }

  /** Shows nothing. */
  disable(scanout: Scanout): void {
    if (scanout.image === null) return;
    this.#release(scanout);
    scanout.stale = false;
    scanout.resource = null;
    scanout.image = null;
    scanout.blob = null;
    scanout.width = 0;
    scanout.height = 0;
    for (const display of this.displays) display.scanoutChanged(scanout);
  }

  /** Part of the image that a scanout shows has changed; it may reach beyond what is shown. */
  damage(scanout: Scanout, { x, y, width, height }: Rect): void {
    const left = Math.max(x, scanout.x) - scanout.x;
    const top = Math.max(y, scanout.y) - scanout.y;
    const right = Math.min(x + width - scanout.x, scanout.width);
    const bottom = Math.min(y + height - scanout.y, scanout.height);
    if (left >= right || top >= bottom) return;
    for (const display of this.displays) {
      display.damaged(scanout, left, top, right - left, bottom - top);
    }
  }

  /** Tells the displays of a cursor. */
  cursorChanged(cursor: CursorState, picture: boolean): void {
    for (const display of this.displays) display.cursorChanged(cursor, picture);
  }

  /** Has the displays show what has changed. */
  flush(): void {
    this.refresh();
    for (const display of this.displays) display.flush();
  }

  /** The scanout's own copy, if there is one of that size. */
  copyOf({ image, resource }: Scanout, width: number, height: number): Image | null {
    const own = image !== null && image !== resource!.image;
    return own && image.width === width && image.height === height ? image : null;
  }

  /** Makes the copies that are stale, before anybody looks at them. */
  refresh(): void {
    for (const scanout of this.all) {
      const { stale, image, resource } = scanout;
      if (!stale) continue;
      scanout.stale = false;
      resource!.texture!.readAll(image!);
    }
  }

  #release({ image, resource }: Scanout): void {
    if (image === null || image === resource!.image) return;
    this.#memory.giveBack(image.bytes.length);
    image[Symbol.dispose]();
  }
}
