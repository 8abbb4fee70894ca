/** A 2D graphics driver (virtio 1.3, 5.7). */
import { mask } from "../../core/features.ts";
import { frontEndMessages } from "../../core/protocol.ts";
import { type BackEndAddress, Frontend, type FrontendOptions } from "../frontend.ts";
import { ringFeatures } from "../negotiation.ts";
import type { GpuDisplay } from "./gpu-display.ts";
import {
  GPU_HEADER,
  GpuBit,
  GpuCommand,
  GpuFormat,
  gpuCommand,
  gpuCommandOf,
  words64,
} from "./gpu-wire.ts";
import { SimpleQueue } from "./simple.ts";

export interface GpuOptions extends FrontendOptions {
  /** What shows the picture; without it GPU_SET_SOCKET is not sent. */
  readonly display?: GpuDisplay;
  /** Bytes of a command at most; 64 KiB by default. */
  readonly maxBytes?: number;
}

/** A piece of guest memory. */
export interface MemoryPiece {
  readonly address: number;
  readonly length: number;
}

/** In pixels. */
export interface GpuRect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** A response: its type, and all of its bytes. */
export interface GpuAnswer {
  /** 0 when there was not even a type. */
  readonly type: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Features that the driver knows. */
const gpuFeatures = ringFeatures | mask(...Object.values(GpuBit));

const DISPLAY_INFO_SIZE = 408;
const EDID_SIZE = 1056;
const UUID_SIZE = 40;

export class GpuDriver implements Disposable {
  readonly frontend: Frontend;
  readonly control: SimpleQueue;
  readonly cursor: SimpleQueue;
  readonly #display: GpuDisplay | null;

  /** Takes a front-end that has not been started, and starts it. */
  constructor(frontend: Frontend, { display, maxBytes = 65536 }: GpuOptions = {}) {
    this.frontend = frontend;
    this.#display = display ?? null;
    this.control = new SimpleQueue(frontend, { index: 0, ringSize: 64, maxBytes });
    this.cursor = new SimpleQueue(frontend, { index: 1, ringSize: 16 });
    this.control.vring.side = this.#display;
    this.connectDisplay();
    frontend.start();
  }

  /** Connects, and starts the device. */
  static connect(to: BackEndAddress, options: GpuOptions = {}): GpuDriver {
    const settings = { ...options, features: options.features ?? gpuFeatures };
    const frontend = Frontend.open(to, settings);
    try {
      return new GpuDriver(frontend, settings);
    } catch (error) {
      frontend[Symbol.dispose]();
      throw error;
    }
  }

  /** Gives the back-end a new socket to the display. */
  connectDisplay(): void {
    if (this.#display === null) return;
    using socket = this.#display.connect();
    this.frontend.connection.command(frontEndMessages.GPU_SET_SOCKET, undefined, [socket]);
  }

  /** Sends a command of the control queue with `room` bytes for its response. */
  command(bytes: Uint8Array, room: number = GPU_HEADER): GpuAnswer {
    const answer = this.control.exchange(bytes, room);
    const type =
      answer.length < 4 ? 0 : new DataView(answer.buffer, answer.byteOffset).getUint32(0, true);
    return { type, bytes: answer };
  }

  /** The same for a command that is made of words. Returns the response's type. */
  send(type: number, ...words: readonly number[]): number {
    return this.command(gpuCommand(type, ...words)).type;
  }

  create(id: number, width: number, height: number, format: number = GpuFormat.B8G8R8X8): number {
    return this.send(GpuCommand.RESOURCE_CREATE_2D, id, format, width, height);
  }

  unref(id: number): number {
    return this.send(GpuCommand.RESOURCE_UNREF, id, 0);
  }

  attach(id: number, pieces: readonly MemoryPiece[], count = pieces.length): number {
    const words = [id, count].concat(this.#entries(pieces));
    return this.command(gpuCommandOf(GpuCommand.RESOURCE_ATTACH_BACKING, words)).type;
  }

  detach(id: number): number {
    return this.send(GpuCommand.RESOURCE_DETACH_BACKING, id, 0);
  }

  /** `offset`: of the rectangle's first pixel in the resource's guest memory, in bytes. */
  transfer(id: number, rect: GpuRect, offset: number): number {
    return this.send(GpuCommand.TRANSFER_TO_HOST_2D, ...rectWords(rect), ...words64(offset), id, 0);
  }

  setScanout(output: number, id: number, rect: GpuRect): number {
    return this.send(GpuCommand.SET_SCANOUT, ...rectWords(rect), output, id);
  }

  flush(id: number, rect: GpuRect): number {
    return this.send(GpuCommand.RESOURCE_FLUSH, ...rectWords(rect), id, 0);
  }

  displayInfo(): GpuAnswer {
    return this.command(gpuCommand(GpuCommand.GET_DISPLAY_INFO), DISPLAY_INFO_SIZE);
  }

  edid(output: number): GpuAnswer {
    return this.command(gpuCommand(GpuCommand.GET_EDID, output, 0), EDID_SIZE);
  }

  assignUuid(id: number): GpuAnswer {
    return this.command(gpuCommand(GpuCommand.RESOURCE_ASSIGN_UUID, id, 0), UUID_SIZE);
  }

  /** A blob of guest memory. */
  createBlob(id: number, size: number, pieces: readonly MemoryPiece[], memory = 1): number {
    const { RESOURCE_CREATE_BLOB } = GpuCommand;
    const head = [id, memory, 1, pieces.length, 0, 0, ...words64(size)];
    return this.command(gpuCommandOf(RESOURCE_CREATE_BLOB, head.concat(this.#entries(pieces))))
      .type;
  }

  /** The device's addresses of guest memory, and lengths. */
  #entries(pieces: readonly MemoryPiece[]): number[] {
    const { ioOffset } = this.frontend.memory;
    return pieces.flatMap(({ address, length }) => [...words64(address + ioOffset), length, 0]);
  }

  setScanoutBlob(
    output: number,
    id: number,
    rect: GpuRect,
    stride = rect.width * 4,
    format: number = GpuFormat.B8G8R8X8,
  ): number {
    const { x, y, width, height } = rect;
    const image = [x + width, y + height, format, 0, stride, 0, 0, 0, 0, 0, 0, 0];
    return this.send(GpuCommand.SET_SCANOUT_BLOB, ...rectWords(rect), output, id, ...image);
  }

  /** UPDATE_CURSOR, on the cursor queue. */
  updateCursor(output: number, id: number, x: number, y: number, hotX = 0, hotY = 0): void {
    const words = [output, x, y, 0, id, hotX, hotY, 0];
    this.cursor.exchange(gpuCommand(GpuCommand.UPDATE_CURSOR, ...words), 0);
  }

  moveCursor(output: number, id: number, x: number, y: number): void {
    const words = [output, x, y, 0, id, 0, 0, 0];
    this.cursor.exchange(gpuCommand(GpuCommand.MOVE_CURSOR, ...words), 0);
  }

  [Symbol.dispose](): void {
    this.frontend[Symbol.dispose]();
  }
}

const rectWords = ({ x, y, width, height }: GpuRect): number[] => [x, y, width, height];
