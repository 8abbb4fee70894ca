/** The two queues of a network device that carry frames (virtio 1.3, 5.1.6). */
import type { Static } from "typebox";
import { BackEndError, malformed } from "../errors.ts";
import type { GuestMemory } from "../guest-memory.ts";
import type { Vring } from "../vring.ts";
import { DEFAULT_TIMEOUT } from "../wait.ts";
import { NetHeader } from "./net-wire.ts";

export type FrameHeader = Static<typeof NetHeader.schema>;

/** What came, without its header. */
export interface ReceivedFrame {
  readonly header: FrameHeader;
  readonly data: Uint8Array<ArrayBuffer>;
}

export interface SendOptions {
  readonly header?: Partial<FrameHeader>;
  /** Lengths of the buffers that header and frame are cut into; one buffer by default. */
  readonly pieces?: readonly number[];
}

export interface NetPairOptions {
  /** Bytes of each buffer to receive into. */
  readonly bufferSize: number;
  /** Bytes of a frame that is sent, at most. */
  readonly maxFrame: number;
  /** 12, or 10 in the times before virtio 1.0. */
  readonly headerSize: number;
  readonly mergeable: boolean;
}

export class NetPair {
  readonly rx: Vring;
  readonly tx: Vring;
  readonly #memory: GuestMemory;
  readonly #options: NetPairOptions;
  readonly #buffers: number[] = [];
  readonly #slots: number[] = [];
  readonly #free: number[] = [];

  constructor(rx: Vring, tx: Vring, memory: GuestMemory, options: NetPairOptions) {
    this.rx = rx;
    this.tx = tx;
    this.#memory = memory;
    this.#options = options;
    for (let i = 0; i < rx.ring.size; i++) this.#buffers.push(memory.allocate(options.bufferSize));
    for (let i = 0; i < Math.min(tx.ring.size, 64); i++) {
      this.#slots.push(memory.allocate(options.maxFrame + options.headerSize));
      this.#free.push(i);
    }
  }

  /** Makes all buffers available, or `count` of them. */
  fill(count = this.#buffers.length): void {
    for (let i = 0; i < count; i++) this.#provide(i);
    this.rx.publish();
  }

  #provide(buffer: number): void {
    const { ring } = this.rx;
    ring.clear();
    ring.push(this.#buffers[buffer]!, this.#options.bufferSize, true);
    if (ring.add(buffer) < 0) throw new RangeError("Cannot provide a buffer: the ring is full");
  }

  /** Puts a frame into the ring. False when there is no room. `publish` shows it. */
  push(frame: Uint8Array, { header = {}, pieces }: SendOptions = {}): boolean {
    const { headerSize } = this.#options;
    const { ring } = this.tx;
    this.reap();
    const slot = this.#free.pop();
    if (slot === undefined) return false;
    const at = this.#slots[slot]!;
    const bytes = new Uint8Array(headerSize + frame.length);
    bytes.set(NetHeader.encode(header).subarray(0, headerSize));
    bytes.set(frame, headerSize);
    this.#memory.write(at, bytes);
    ring.clear();
    let done = 0;
    for (const piece of [...(pieces ?? []), bytes.length]) {
      const size = Math.min(piece, bytes.length - done);
      if (size > 0) ring.push(at + done, size, false);
      done += size;
    }
    if (ring.add(slot) >= 0) return true;
    this.#free.push(slot);
    return false;
  }

  /** Takes back what was sent. Returns how many frames are still under way. */
  reap(): number {
    const { ring } = this.tx;
    while (ring.next()) this.#free.push(ring.token);
    return ring.inFlight;
  }

  /** Sends one frame and waits until its memory is free again. */
  send(frame: Uint8Array, options: SendOptions = {}): void {
    if (!this.push(frame, options)) throw new RangeError("Cannot send: the ring is full");
    this.tx.publish();
    this.sent();
  }

  /** Waits until everything is sent. */
  sent(milliseconds: number = DEFAULT_TIMEOUT): void {
    while (this.reap() > 0) {
      if (!this.tx.wait(milliseconds)) {
        throw new BackEndError("silent", `Vring ${this.tx.index} does not send`);
      }
    }
  }

  /** The next frame, or null when none comes in time. Its buffers are provided again unless `keep`. */
  receive(milliseconds: number = DEFAULT_TIMEOUT, keep = false): ReceivedFrame | null {
    const { ring } = this.rx;
    const { headerSize, mergeable } = this.#options;
    if (!ring.next()) {
      if (!this.rx.wait(milliseconds)) return null;
      ring.next();
    }
    const first = this.#take();
    if (first.length < headerSize)
      malformed(`The back-end delivers a frame of ${first.length} bytes`);
    const padded = new Uint8Array(NetHeader.size);
    padded.set(first.subarray(0, headerSize));
    const header = NetHeader.decode(padded);
    const parts = [first.subarray(headerSize)];
    const used = [ring.token];
    const count = mergeable ? header.buffers : 1;
    if (mergeable && count === 0) malformed("The back-end delivers a frame in 0 buffers");
    while (parts.length < count) {
      if (!ring.next()) {
        malformed(`The back-end delivers ${parts.length} of ${count} buffers of a frame`);
      }
      parts.push(this.#take());
      used.push(ring.token);
    }
    if (!keep) {
      for (const buffer of used) this.#provide(buffer);
      this.rx.publish();
    }
    return { header, data: concat(parts) };
  }

  #take(): Uint8Array<ArrayBuffer> {
    const { token, written } = this.rx.ring;
    return this.#memory.read(this.#buffers[token]!, written);
  }
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}
