/**
 * The displays of a front-end, at its end of the socket of GPU_SET_SOCKET (vhost-user-gpu): it keeps
 * what each one shows, and takes nothing that no front-end could take.
 */
import { type Fd, MessageBuffer, SystemError, socketPair } from "../../ffi/mod.ts";
import { BackEndError } from "../errors.ts";
import { DEFAULT_TIMEOUT, READABLE, waitFor } from "../wait.ts";

const HEADER = 12;
const CHUNK = 256 * 1024;
const PIXEL = 4;
const CURSOR_BYTES = 64 * 64 * PIXEL;
const MAX_OUTPUTS = 16;
/** Bytes of the largest message: an update of 16384 by 16384 pixels is sent by nobody. */
const MAX_MESSAGE = 2 ** 28;

const REPLY = 4;
const RESP_DISPLAY_INFO = 0x1101;
const RESP_EDID = 0x1104;

const names: readonly string[] = [
  "",
  "GET_PROTOCOL_FEATURES",
  "SET_PROTOCOL_FEATURES",
  "GET_DISPLAY_INFO",
  "CURSOR_POS",
  "CURSOR_POS_HIDE",
  "CURSOR_UPDATE",
  "SCANOUT",
  "UPDATE",
  "DMABUF_SCANOUT",
  "DMABUF_UPDATE",
  "GET_EDID",
];

/** One output's picture. Sizes in pixels. */
export interface Screen {
  readonly width: number;
  readonly height: number;
  /** B8G8R8X8, rows one after another. */
  readonly pixels: Uint8Array<ArrayBuffer>;
}

export interface ScreenCursor {
  readonly x: number;
  readonly y: number;
  readonly visible: boolean;
  readonly hotX: number;
  readonly hotY: number;
  /** 64 by 64 pixels, B8G8R8A8; null before there is one. */
  readonly picture: Uint8Array<ArrayBuffer> | null;
}

/** A message: its name, and the numbers that its payload begins with. */
export interface DisplayMessage {
  readonly name: string;
  readonly numbers: readonly number[];
}

export interface GpuDisplayOptions {
  /** Sizes of the outputs, which a driver asks for; null for one that is off. One of 1024x768 by default. */
  readonly outputs?: readonly ({ readonly width: number; readonly height: number } | null)[];
  /** EDIDs by output; EDID is not offered without them. */
  readonly edids?: readonly Uint8Array[];
  /** Requests that are not answered, by name. */
  readonly silent?: readonly string[];
}

export class GpuDisplay implements Disposable {
  options: GpuDisplayOptions;
  readonly screens: (Screen | null)[] = Array.from({ length: MAX_OUTPUTS }, () => null);
  readonly cursors: (ScreenCursor | null)[] = Array.from({ length: MAX_OUTPUTS }, () => null);
  /** All that came, oldest first. */
  readonly messages: DisplayMessage[] = [];
  /** The features that the back-end accepted; null as long as it did not. */
  accepted: bigint | null = null;
  #socket: Fd | null = null;
  readonly #in = new MessageBuffer(CHUNK);
  readonly #out = new MessageBuffer(HEADER + 1056);
  #data = new Uint8Array(2 * CHUNK);
  #length = 0;

  constructor(options: GpuDisplayOptions = {}) {
    this.options = options;
  }

  /** Our end. Throws when there is none. */
  get fd(): Fd {
    if (this.#socket === null) throw new Error("Cannot use a display that is not connected");
    return this.#socket;
  }

  /** Makes a new socket, as front-ends do whenever a driver starts. The end returned is the caller's. */
  connect(): Fd {
    this.#socket?.close();
    const [ours, theirs] = socketPair();
    this.#socket = ours;
    this.#length = 0;
    this.accepted = null;
    this.screens.fill(null);
    return theirs;
  }

  /** Takes what has come, without waiting. Throws `BackEndError` for what must not come. */
  serve(): void {
    while (this.#receive());
  }

  /** Serves until something holds. Throws `BackEndError` when it does not in time. */
  serveUntil(holds: () => boolean, what: string, milliseconds: number = DEFAULT_TIMEOUT): void {
    const end = performance.now() + milliseconds;
    for (;;) {
      this.serve();
      if (holds()) return;
      const left = end - performance.now();
      if (left <= 0 || this.fd.closed) throw new BackEndError("silent", `There was no ${what}`);
      waitFor(this.fd.number, READABLE, Math.min(left, 50));
    }
  }

  /** How many messages of a name have come. */
  count(name: string): number {
    return this.messages.filter((message) => message.name === name).length;
  }

  [Symbol.dispose](): void {
    this.#socket?.close();
  }

  /** Reads once. False when nothing is there. */
  #receive(): boolean {
    const socket = this.fd;
    if (socket.closed) return false;
    let got: number;
    try {
      got = this.#in.receive(socket, 0, CHUNK);
    } catch (error) {
      if (!(error instanceof SystemError) || error.code !== "ECONNRESET") throw error;
      got = 0;
    }
    if (got === 0) socket.close();
    if (got <= 0) return false;
    if (this.#length + got > this.#data.length) {
      const larger = new Uint8Array(2 * (this.#length + got));
      larger.set(this.#data.subarray(0, this.#length));
      this.#data = larger;
    }
    this.#data.set(this.#in.data.subarray(0, got), this.#length);
    this.#length += got;
    this.#takeAll();
    return true;
  }

  #takeAll(): void {
    let at = 0;
    while (this.#length - at >= HEADER) {
      const view = new DataView(this.#data.buffer, at);
      const request = view.getUint32(0, true);
      const size = view.getUint32(8, true);
      const name = names[request] || `request ${request}`;
      if (view.getUint32(4, true) !== 0) fail(`${name} has flags`);
      if (size > MAX_MESSAGE) fail(`${name} has ${size} bytes`);
      if (this.#length - at < HEADER + size) break;
      this.#take(name, this.#data.subarray(at + HEADER, at + HEADER + size));
      at += HEADER + size;
    }
    this.#data.copyWithin(0, at, this.#length);
    this.#length -= at;
  }

  #take(name: string, payload: Uint8Array<ArrayBuffer>): void {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const count = Math.min(5, payload.length >> 2);
    const numbers = Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
    this.messages.push({ name, numbers });
    if (this.options.silent?.includes(name)) return;
    const { edids } = this.options;
    switch (name) {
      case "GET_PROTOCOL_FEATURES": {
        expectSize(name, payload, 0);
        const reply = new Uint8Array(8);
        reply[0] = edids === undefined ? 0 : 1;
        return this.#reply(1, reply);
      }
      case "SET_PROTOCOL_FEATURES":
        expectSize(name, payload, 8);
        this.accepted = view.getBigUint64(0, true);
        return;
      case "GET_DISPLAY_INFO":
        expectSize(name, payload, 0);
        return this.#reply(3, this.#displayInfo());
      case "GET_EDID":
        expectSize(name, payload, 4);
        if (edids === undefined) fail(`${name} was sent without its feature`);
        return this.#reply(11, edidReply(edids[numbers[0]!] ?? new Uint8Array(0)));
      case "CURSOR_POS":
      case "CURSOR_POS_HIDE":
      case "CURSOR_UPDATE":
        return this.#moveCursor(name, payload, numbers);
      case "SCANOUT":
        expectSize(name, payload, 12);
        return this.#resize(numbers);
      case "UPDATE":
        return this.#update(payload, numbers);
      default:
        fail(`${name} came, which a 2D device has no use for`);
    }
  }

  #resize([output, width, height]: readonly number[]): void {
    if (output! >= MAX_OUTPUTS) fail(`SCANOUT names output ${output}`);
    const pixels = new Uint8Array(width! * height! * PIXEL);
    const screen = { width: width!, height: height!, pixels };
    this.screens[output!] = width === 0 || height === 0 ? null : screen;
  }

  #update(payload: Uint8Array, numbers: readonly number[]): void {
    const [output, x, y, width, height] = numbers as [number, number, number, number, number];
    const screen = this.screens[output];
    if (screen == null) fail(`UPDATE of output ${output}, which no SCANOUT came for`);
    if (width === 0 || height === 0) fail("UPDATE of nothing");
    if (x + width > screen.width || y + height > screen.height) {
      fail(`UPDATE of ${width}x${height} at ${x},${y} of ${screen.width}x${screen.height}`);
    }
    const length = width * PIXEL;
    expectSize("UPDATE", payload, 20 + length * height);
    for (let row = 0; row < height; row++) {
      const from = 20 + row * length;
      const to = ((y + row) * screen.width + x) * PIXEL;
      screen.pixels.set(payload.subarray(from, from + length), to);
    }
  }

  #moveCursor(name: string, payload: Uint8Array, numbers: readonly number[]): void {
    const [output, x, y, hotX, hotY] = numbers as [number, number, number, number, number];
    if (output >= MAX_OUTPUTS) fail(`${name} names output ${output}`);
    const visible = name !== "CURSOR_POS_HIDE";
    if (name === "CURSOR_UPDATE") {
      expectSize(name, payload, 20 + CURSOR_BYTES);
      this.cursors[output] = { x, y, visible, hotX, hotY, picture: payload.slice(20) };
      return;
    }
    expectSize(name, payload, 12);
    const old = this.cursors[output] ?? { hotX: 0, hotY: 0, picture: null };
    this.cursors[output] = { ...old, x, y, visible };
  }

  #displayInfo(): Uint8Array {
    const { outputs = [{ width: 1024, height: 768 }] } = this.options;
    const info = new Uint8Array(408);
    const view = new DataView(info.buffer);
    view.setUint32(0, RESP_DISPLAY_INFO, true);
    outputs.forEach((output, i) => {
      if (output === null) return;
      view.setUint32(24 + 24 * i + 8, output.width, true);
      view.setUint32(24 + 24 * i + 12, output.height, true);
      view.setUint32(24 + 24 * i + 16, 1, true);
    });
    return info;
  }

  /** Sends a reply, whose flags and size may be wrong on purpose. */
  sendReply(request: number, payload: Uint8Array, flags: number, size: number): void {
    const { view, data } = this.#out;
    view.setUint32(0, request, true);
    view.setUint32(4, flags, true);
    view.setUint32(8, size, true);
    data.set(payload, HEADER);
    this.#out.send(this.fd, 0, HEADER + payload.length);
  }

  #reply(request: number, payload: Uint8Array): void {
    this.sendReply(request, payload, REPLY, payload.length);
  }
}

function edidReply(edid: Uint8Array): Uint8Array {
  const reply = new Uint8Array(1056);
  const view = new DataView(reply.buffer);
  view.setUint32(0, RESP_EDID, true);
  view.setUint32(24, edid.length, true);
  reply.set(edid, 32);
  return reply;
}

function expectSize(name: string, payload: Uint8Array, size: number): void {
  if (payload.length !== size) fail(`${name} has ${payload.length} bytes, not ${size}`);
}

function fail(message: string): never {
  throw new BackEndError("malformed", `The display's socket: ${message}`);
}
