/**
 * The front-end's displays, at the other end of the socket of GPU_SET_SOCKET (vhost-user-gpu). What is
 * there to show is kept as state and not as messages: a front-end that reads slowly gets fewer
 * pictures, and one that does not read at all gets the last one when it does.
 */
import type { Host } from "../../../core/device.ts";
import type { Fd } from "../../../ffi/mod.ts";
import type { CursorState } from "../cursor.ts";
import type { KnowingDisplay, Settle } from "../display.ts";
import type { Scanout, Scanouts } from "../scanouts.ts";
import { CURSOR_SIDE, PIXEL } from "../wire.ts";
import { GpuProtocolFeature, GpuRequest, Payload } from "./gpu-protocol.ts";
import { BAND, GpuSocket } from "./gpu-socket.ts";
import { Shown } from "./shown.ts";

/** How long the driver waits for what the front-end is asked, in milliseconds; Linux gives up after 5 s. */
const ANSWER_LIMIT = 3000;

const CURSOR_BYTES = CURSOR_SIDE * CURSOR_SIDE * PIXEL;

/** A question that is not on its way yet. */
interface Question {
  readonly request: number;
  /** Bytes of the reply. */
  readonly size: number;
  /** The payload, or null for a request without one. */
  readonly scanout: number | null;
  readonly settle: Settle;
}

export interface FrontEndDisplayEvents {
  /** The socket is no longer there. */
  closed(display: FrontEndDisplay): void;
}

export class FrontEndDisplay implements KnowingDisplay, Disposable {
  readonly #host: Host;
  readonly #socket: GpuSocket;
  readonly #shown: readonly Shown[];
  readonly #questions: Question[] = [];
  /** Questions that the driver waits for. */
  readonly #waiting = new Map<Settle, Disposable>();
  /** What was agreed on; null until then. */
  #features: bigint | null = null;
  /** Features to tell the front-end. */
  #accept: bigint | null = null;
  /** It left a question unanswered, and is not asked again until it answers. */
  #mute = false;
  /** The scanout that is shown next, so that each gets its turn. */
  #turn = 0;

  /** Takes `socket`. Shows what the scanouts show now, and all that follows. */
  constructor(socket: Fd, scanouts: Scanouts, host: Host, events: FrontEndDisplayEvents) {
    this.#host = host;
    this.#shown = scanouts.all.map((scanout) => new Shown(scanout));
    this.#socket = new GpuSocket(socket, host, {
      next: () => this.#next(),
      closed: (reason) => {
        if (reason === null) host.log.debug("The display's socket is closed");
        else host.log.warn("The display's socket ends", { reason });
        events.closed(this);
      },
    });
    const { GET_PROTOCOL_FEATURES } = GpuRequest;
    this.#ask(GET_PROTOCOL_FEATURES, Payload.features, null, (answer) => this.#agree(answer));
    this.flush();
  }

  scanoutChanged({ index }: Scanout): void {
    this.#shown[index]!.changed();
  }

  damaged({ index }: Scanout, x: number, y: number, width: number, height: number): void {
    this.#shown[index]!.dirty.add(x, y, width, height);
  }

  cursorChanged({ scanout }: CursorState, picture: boolean): void {
    this.#shown[scanout]!.cursorChanged(picture);
  }

  flush(): void {
    this.#socket.pump();
  }

  askDisplayInfo(settle: Settle): void {
    this.#askInTime(GpuRequest.GET_DISPLAY_INFO, Payload.displayInfo, null, settle);
  }

  askEdid(scanout: number, settle: Settle): void {
    // Asked before the features are known, the question waits for them.
    const unable = this.#features !== null && (this.#features & EDID) === 0n;
    if (unable) return settle(null);
    this.#askInTime(GpuRequest.GET_EDID, Payload.edid, scanout, settle);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
    for (const { settle } of this.#questions.splice(0)) settle(null);
    for (const timer of this.#waiting.values()) timer[Symbol.dispose]();
    this.#waiting.clear();
  }

  #agree(answer: Uint8Array | null): void {
    if (answer === null) return;
    const offered = new DataView(answer.buffer, answer.byteOffset).getBigUint64(0, true);
    this.#features = offered & EDID;
    this.#accept = this.#features;
    if (this.#features === 0n) {
      const edids = this.#questions.filter(({ request }) => request === GpuRequest.GET_EDID);
      for (const question of edids) {
        this.#questions.splice(this.#questions.indexOf(question), 1);
        question.settle(null);
      }
    }
    this.flush();
  }

  /** Asks, and settles with null when there is no answer in time. */
  #askInTime(request: number, size: number, scanout: number | null, settle: Settle): void {
    if (this.#mute || this.#socket.closed) return settle(null);
    const answered: Settle = (answer) => {
      if (answer !== null) this.#mute = false;
      const timer = this.#waiting.get(answered);
      if (timer === undefined) return;
      timer[Symbol.dispose]();
      this.#waiting.delete(answered);
      settle(answer);
    };
    const timer = this.#host.every(ANSWER_LIMIT, () => {
      this.#mute = true;
      this.#host.log.warn("The front-end does not tell its displays: the driver gets our own");
      for (const late of [...this.#waiting.keys()]) late(null);
    });
    this.#waiting.set(answered, timer);
    this.#ask(request, size, scanout, answered);
    this.flush();
  }

  #ask(request: number, size: number, scanout: number | null, settle: Settle): void {
    this.#questions.push({ request, size, scanout, settle });
  }

  /** Makes the next message: questions, then sizes, cursors and pixels. */
  #next(): boolean {
    if (this.#accept !== null) return this.#sendFeatures(this.#accept);
    // The first question is for the features. Nothing else is said before that is settled.
    const [question] = this.#questions;
    const first = question?.request === GpuRequest.GET_PROTOCOL_FEATURES;
    if (this.#features === null && !first) return false;
    if (question !== undefined) return this.#sendQuestion(this.#questions.shift()!);
    for (const shown of this.#shown) {
      if (shown.resized) return this.#sendSize(shown);
      if (shown.cursorMoved) return this.#sendCursor(shown);
    }
    for (let i = 0; i < this.#shown.length; i++) {
      const shown = this.#shown[this.#turn]!;
      if (shown.dirty.count > 0) return this.#sendPixels(shown);
      this.#turn = (this.#turn + 1) % this.#shown.length;
    }
    return false;
  }

  #sendFeatures(features: bigint): boolean {
    this.#accept = null;
    this.#socket.begin(GpuRequest.SET_PROTOCOL_FEATURES, Payload.features);
    this.#socket.setU32(0, Number(features));
    this.#socket.setU32(4, 0);
    return true;
  }

  #sendQuestion({ request, size, scanout, settle }: Question): boolean {
    this.#socket.begin(request, scanout === null ? 0 : Payload.edidRequest);
    if (scanout !== null) this.#socket.setU32(0, scanout);
    this.#socket.expect(request, size, settle);
    return true;
  }

  #sendSize(shown: Shown): boolean {
    const { index, width, height } = shown.scanout;
    shown.tellSize();
    const socket = this.#socket;
    socket.begin(GpuRequest.SCANOUT, Payload.scanout);
    socket.setU32(0, index);
    socket.setU32(4, width);
    socket.setU32(8, height);
    return true;
  }

  #sendCursor(shown: Shown): boolean {
    const { CURSOR_POS, CURSOR_POS_HIDE, CURSOR_UPDATE } = GpuRequest;
    const { cursor } = shown.scanout;
    const socket = this.#socket;
    if (shown.tellCursor()) {
      socket.begin(CURSOR_UPDATE, Payload.cursor + CURSOR_BYTES);
      socket.setU32(12, cursor.hotX);
      socket.setU32(16, cursor.hotY);
      socket.setBytes(Payload.cursor, cursor.picture!);
    } else socket.begin(cursor.visible ? CURSOR_POS : CURSOR_POS_HIDE, Payload.position);
    socket.setU32(0, cursor.scanout);
    socket.setU32(4, cursor.x);
    socket.setU32(8, cursor.y);
    return true;
  }

  #sendPixels(shown: Shown): boolean {
    const band = shown.nextBand(BAND);
    const { x, y, width, rows, bytes } = band;
    const socket = this.#socket;
    socket.begin(GpuRequest.UPDATE, Payload.update + bytes);
    socket.setU32(0, shown.scanout.index);
    socket.setU32(4, x);
    socket.setU32(8, y);
    socket.setU32(12, width);
    socket.setU32(16, rows);
    shown.tellBand(band, socket.payload, Payload.update);
    this.#turn = (this.#turn + 1) % this.#shown.length;
    return true;
  }
}

const EDID = 1n << BigInt(GpuProtocolFeature.EDID);
