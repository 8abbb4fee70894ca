/** The cursor queue (virtio 1.3, 5.7.6.10). Commands that make no sense are ignored. */
import type { Chain } from "../../core/chain.ts";
import type { Log } from "../../core/log.ts";
import { Image } from "./image.ts";
import type { GpuState } from "./state.ts";
import { Command, CURSOR_SIDE, Cursor, Header } from "./wire.ts";

export class CursorQueue {
  readonly #state: GpuState;
  readonly #log: Log;

  constructor(state: GpuState, log: Log) {
    this.#state = state;
    this.#log = log;
  }

  /** Serves one chain. There are no responses: always 0. */
  handle(chain: Chain): number {
    if (chain.readableBytes < Cursor.size) return this.#ignore("it is too short");
    const type = chain.readU32(Header.type);
    if (type !== Command.UPDATE_CURSOR && type !== Command.MOVE_CURSOR) {
      return this.#ignore("it is neither UPDATE_CURSOR nor MOVE_CURSOR");
    }
    const scanout = this.#state.scanouts.get(chain.readU32(Cursor.scanout));
    if (scanout === undefined) return this.#ignore("there is no such scanout");
    const { cursor } = scanout;
    const id = chain.readU32(Cursor.resource);
    const picture = type === Command.UPDATE_CURSOR && id !== 0;
    if (picture) {
      const hotX = chain.readU32(Cursor.hotX);
      const hotY = chain.readU32(Cursor.hotY);
      const image = this.#imageOf(id);
      if (image?.width !== CURSOR_SIDE || image.height !== CURSOR_SIDE) {
        return this.#ignore(`its resource is not an image of ${CURSOR_SIDE} by ${CURSOR_SIDE}`);
      }
      if (hotX >= CURSOR_SIDE || hotY >= CURSOR_SIDE) {
        return this.#ignore("its hot spot is outside of the picture");
      }
      cursor.setPicture(image.bytes, hotX, hotY);
    }
    cursor.x = chain.readU32(Cursor.x);
    cursor.y = chain.readU32(Cursor.y);
    cursor.visible = id !== 0;
    this.#state.scanouts.cursorChanged(cursor, picture);
    return 0;
  }

  /** The image of a resource; a copy of its texture if that has the right size. */
  #imageOf(id: number): Image | null {
    const resource = this.#state.resources.get(id);
    const { image = null, texture = null } = resource ?? {};
    if (image !== null || texture === null || texture.order < 0) return image;
    const { width, height } = texture.shape;
    if (width !== CURSOR_SIDE || height !== CURSOR_SIDE) return null;
    const copy = new Image(width, height);
    return texture.readAll(copy) ? copy : null;
  }

  #ignore(reason: string): number {
    this.#log.warn(`Ignored a cursor command: ${reason}`);
    return 0;
  }
}
