/** A browser's part in `--web`, without a browser: what the page does with messages, written anew. */
import assert from "node:assert/strict";
import type { InputDriver } from "../../frontend/mod.ts";
import { type Triple, triples } from "../support/input.ts";
import { type Program, until } from "../support/program.ts";
import { opaque } from "./screen.ts";

const HEADER = 28;
const PIXEL = 4;
const kinds = ["HELLO", "SIZE", "PIXELS", "CURSOR"] as const;

/** The address that a program has told. */
export function urlOf(program: Program): string {
  return until(() => /http:\/\/\S+/.exec(program.log)?.[0] ?? null, "the address of the page");
}

/** The address of the WebSocket of a page. */
export const socketUrl = (url: string): string => `${url.replace("http:", "ws:")}screen`;

export interface WebPicture {
  readonly width: number;
  readonly height: number;
  /** B8G8R8X8. */
  readonly pixels: Uint8Array<ArrayBuffer>;
}

export interface WebCursor {
  /** x, y, x and y of the hot spot, visible. */
  readonly numbers: readonly number[];
  readonly picture: Uint8Array | null;
  /** How many pictures came. */
  readonly pictures: number;
}

export interface WebRecord {
  readonly name: (typeof kinds)[number];
  readonly output: number;
  readonly numbers: readonly number[];
}

export class WebViewer implements Disposable {
  readonly screens = new Map<number, WebPicture>();
  readonly cursors = new Map<number, WebCursor>();
  readonly messages: WebRecord[] = [];
  /** Tells the server of each message that it got it. */
  seeing = true;
  closed = false;
  #unseen = 0;
  readonly #socket: WebSocket;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#take(new Uint8Array(data as ArrayBuffer));
    socket.onclose = () => {
      this.closed = true;
    };
  }

  static async connect(url: string): Promise<WebViewer> {
    const socket = new WebSocket(socketUrl(url));
    const viewer = new WebViewer(socket);
    await viewer.until(() => socket.readyState === WebSocket.OPEN || viewer.closed, "connection");
    assert.equal(viewer.closed, false, "the WebSocket was refused");
    return viewer;
  }

  send(message: object | string): void {
    this.#socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** Goes on seeing what comes, and what came. */
  see(): void {
    this.seeing = true;
    for (; this.#unseen > 0; this.#unseen--) this.send({ seen: true });
  }

  /** Waits for something, leaving the thread to JavaScript's events. */
  async until(probe: () => boolean, what: string): Promise<void> {
    await eventually(probe, what);
  }

  /** Waits for a picture. */
  async shows(bytes: Uint8Array, output = 0): Promise<void> {
    const wanted = Buffer.from(opaque(bytes));
    await this.until(() => {
      const screen = this.screens.get(output);
      return screen !== undefined && wanted.equals(opaque(screen.pixels));
    }, `the right picture on output ${output}`);
  }

  #take(data: Uint8Array): void {
    const view = new DataView(data.buffer, data.byteOffset);
    const name = kinds[view.getUint32(0, true)]!;
    const output = view.getUint32(4, true);
    const numbers = [8, 12, 16, 20, 24].map((at) => view.getInt32(at, true));
    const pixels = data.subarray(HEADER);
    this.messages.push({ name, output, numbers });
    if (name === "SIZE") {
      const [width, height] = numbers as [number, number];
      const bytes = new Uint8Array(width * height * PIXEL);
      this.screens.set(output, { width, height, pixels: bytes });
    } else if (name === "PIXELS") this.#paint(output, numbers, pixels);
    else if (name === "CURSOR") {
      const { picture = null, pictures = 0 } = this.cursors.get(output) ?? {};
      const painted = pixels.length > 0;
      const now = painted ? pixels : picture;
      this.cursors.set(output, { numbers, picture: now, pictures: pictures + (painted ? 1 : 0) });
    }
    if (this.seeing) this.send({ seen: true });
    else this.#unseen++;
  }

  #paint(output: number, numbers: readonly number[], pixels: Uint8Array): void {
    const [x, y, width, height] = numbers as [number, number, number, number];
    const screen = this.screens.get(output)!;
    assert.ok(x >= 0 && y >= 0 && x + width <= screen.width && y + height <= screen.height);
    assert.equal(pixels.length, width * height * PIXEL);
    const row = width * PIXEL;
    for (let i = 0; i < height; i++) {
      const at = ((y + i) * screen.width + x) * PIXEL;
      screen.pixels.set(pixels.subarray(i * row, (i + 1) * row), at);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** Waits until `probe` is true, leaving the thread to JavaScript's events. */
export async function eventually(
  probe: () => boolean,
  what: string,
  milliseconds = 10_000,
): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!probe()) {
    if (performance.now() > end) throw new Error(`${what} did not come in ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Waits for exactly these events, leaving the thread to JavaScript's events. */
export async function gets(driver: InputDriver, wanted: readonly Triple[]): Promise<void> {
  const got: Triple[] = [];
  await eventually(() => {
    got.push(...triples(driver.take()));
    return got.length >= wanted.length;
  }, `${wanted.length} events`);
  assert.deepEqual(got, wanted);
}
