/**
 * One browser that looks on. It says which messages it has shown, and there are never more than a few on
 * their way: what changes meanwhile is kept as state, so that a slow one gets fewer pictures, and one
 * that stops reading costs nothing more.
 */
import type { Scanout } from "../../scanouts.ts";
import { CURSOR_SIDE, PIXEL } from "../../wire.ts";
import { Shown } from "../shown.ts";
import { readPageMessage, type ViewerControls, WebHeader, WebMessage } from "./wire.ts";

/** Messages that may be on their way. */
const WINDOW = 8;
/** Bytes of pixels in one message. */
const BAND = 256 * 1024;

const CURSOR_BYTES = CURSOR_SIDE * CURSOR_SIDE * PIXEL;

/** What a viewer needs of its WebSocket. */
export interface ViewerSocket {
  readonly readyState: number;
  readonly bufferedAmount: number;
  send(data: Uint8Array): void;
  close(code: number, reason: string): void;
}

const OPEN = 1;
/** "The endpoint has received a message that violates its policy" (RFC 6455, 7.4.1). */
const POLICY = 1008;

export class Viewer {
  /** Answered the last ping. */
  alive = true;
  readonly #socket: ViewerSocket;
  readonly #shown: readonly Shown[];
  readonly #controls: ViewerControls | null;
  /** Memory for messages that is not in use. */
  readonly #free: Uint8Array[] = [];
  /** The messages on their way, oldest first. */
  readonly #sent: Uint8Array[] = [];
  #greeted = false;
  /** The output that is shown next, so that each gets its turn. */
  #turn = 0;
  /** What releases each key and button that it holds down. */
  readonly #held = new Map<string, () => void>();

  constructor(socket: ViewerSocket, scanouts: readonly Scanout[], controls: ViewerControls | null) {
    this.#socket = socket;
    this.#shown = scanouts.map((scanout) => new Shown(scanout));
    this.#controls = controls;
  }

  shown(output: number): Shown {
    return this.#shown[output]!;
  }

  /** What it may do is something else now. */
  greet(): void {
    this.#greeted = false;
  }

  /** Sends as much as there is to say and the browser keeps up with. */
  pump(): void {
    const socket = this.#socket;
    while (this.#sent.length < WINDOW && socket.readyState === OPEN) {
      // Only one that lies about what it has seen can have as much waiting.
      if (socket.bufferedAmount > WINDOW * BAND) return;
      const message = this.#free.pop() ?? new Uint8Array(WebHeader.size + BAND);
      const length = this.#make(message, new DataView(message.buffer));
      if (length === 0) {
        this.#free.push(message);
        return;
      }
      this.#sent.push(message);
      socket.send(message.subarray(0, length));
    }
  }

  /** Takes a message of the page. One that makes no sense ends the connection. */
  receive(text: string): void {
    const message = readPageMessage(text, this.#shown.length);
    if (message === null) return this.#socket.close(POLICY, "This message makes no sense");
    if ("seen" in message) {
      const seen = this.#sent.shift();
      if (seen === undefined) return this.#socket.close(POLICY, "There was nothing to see");
      this.#free.push(seen);
      return this.pump();
    }
    if (this.#controls === null) return;
    const { input } = this.#controls;
    if ("key" in message) {
      const { key, down } = message;
      this.#hold(`key ${key}`, down, (pressed) => input.key(key, pressed));
    } else if ("button" in message) {
      const { button, down } = message;
      this.#hold(`button ${button}`, down, (pressed) => input.button(button, pressed));
    } else if ("x" in message) input.moveTo(message.output, message.x, message.y);
    else if ("width" in message) {
      this.#controls.resize(message.output, message.width, message.height);
    } else input.wheel(message.up, message.right);
  }

  /** Nobody is there any more: what was pressed is released. */
  leave(): void {
    for (const release of this.#held.values()) release();
    this.#held.clear();
  }

  #hold(name: string, down: boolean, press: (pressed: boolean) => void): void {
    if (this.#held.has(name) === down) return;
    if (down) this.#held.set(name, () => press(false));
    else this.#held.delete(name);
    press(down);
  }

  /** Makes the next message: sizes, then cursors, then pixels. Returns its bytes, 0 for nothing. */
  #make(message: Uint8Array, view: DataView): number {
    if (!this.#greeted) {
      this.#greeted = true;
      const controls = this.#controls;
      const resizable = controls?.resizable ? 1 : 0;
      return writeHeader(view, WebMessage.HELLO, 0, controls === null ? 0 : 1, resizable);
    }
    for (const shown of this.#shown) {
      if (shown.resized) {
        shown.tellSize();
        const { index, width, height } = shown.scanout;
        return writeHeader(view, WebMessage.SIZE, index, width, height);
      }
      if (shown.cursorMoved) return writeCursor(message, view, shown);
    }
    for (let i = 0; i < this.#shown.length; i++) {
      const shown = this.#shown[this.#turn]!;
      this.#turn = (this.#turn + 1) % this.#shown.length;
      if (shown.dirty.count > 0) return writePixels(message, view, shown);
    }
    return 0;
  }
}

function writeHeader(
  view: DataView,
  type: number,
  output: number,
  ...numbers: readonly number[]
): number {
  view.setUint32(WebHeader.type, type, true);
  view.setUint32(WebHeader.output, output, true);
  for (let i = 0; WebHeader.numbers + 4 * i < WebHeader.size; i++) {
    view.setUint32(WebHeader.numbers + 4 * i, numbers[i] ?? 0, true);
  }
  return WebHeader.size;
}

function writeCursor(message: Uint8Array, view: DataView, shown: Shown): number {
  const { scanout, x, y, hotX, hotY, visible, picture } = shown.scanout.cursor;
  const painted = shown.tellCursor();
  writeHeader(view, WebMessage.CURSOR, scanout, x, y, hotX, hotY, visible ? 1 : 0);
  if (!painted) return WebHeader.size;
  message.set(picture!, WebHeader.size);
  return WebHeader.size + CURSOR_BYTES;
}

function writePixels(message: Uint8Array, view: DataView, shown: Shown): number {
  const band = shown.nextBand(BAND);
  const { x, y, width, rows, bytes } = band;
  writeHeader(view, WebMessage.PIXELS, shown.scanout.index, x, y, width, rows);
  shown.tellBand(band, message, WebHeader.size);
  return WebHeader.size + bytes;
}
