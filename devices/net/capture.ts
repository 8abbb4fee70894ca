/**
 * Frames of a port in a file of the pcapng format (draft-ietf-opsawg-pcapng), with nanoseconds and
 * directions. Frames are written from where they are, without a copy.
 */

import type { Log } from "../../core/log.ts";
import { bytes, type Fd, Iovecs, libc, O_CREAT, O_WRONLY, openFile } from "../../ffi/mod.ts";
import type { Frame } from "./frame.ts";

const O_TRUNC = 0o1000;
const SECTION_HEADER = 0x0a0d0d0a;
const BYTE_ORDER = 0x1a2b3c4d;
const INTERFACE = 1;
const LINKTYPE_ETHERNET = 1;
const IF_NAME = 2;
const IF_TSRESOL = 9;
const NANOSECONDS = 9;
const PACKET = 6;
const EPB_FLAGS = 2;
const INBOUND = 1;
const OUTBOUND = 2;
/** Bytes of a packet block before and after its data. */
const HEAD = 28;
const TAIL = 16;

/** A file that any number of ports write to, each as an interface of its own. */
export class CaptureFile implements Disposable {
  readonly #fd: Fd;
  readonly #log: Log;
  #interfaces = 0;
  #uses = 0;
  #failed = false;

  /** Throws `SystemError` when the file cannot be made. */
  constructor(path: string, log: Log) {
    this.#fd = openFile(path, O_WRONLY | O_CREAT | O_TRUNC);
    this.#log = log;
    const block = new DataView(new ArrayBuffer(28));
    block.setUint32(0, SECTION_HEADER, true);
    block.setUint32(4, 28, true);
    block.setUint32(8, BYTE_ORDER, true);
    block.setUint16(12, 1, true);
    block.setBigInt64(16, -1n, true);
    block.setUint32(24, 28, true);
    this.write(new Uint8Array(block.buffer));
  }

  /** A new interface of the file. */
  add(name: string): Capture {
    const encoded = new TextEncoder().encode(name);
    const padded = (encoded.length + 3) & ~3;
    const size = 20 + 8 + 4 + padded + 4;
    const block = new DataView(new ArrayBuffer(size));
    block.setUint32(0, INTERFACE, true);
    block.setUint32(4, size, true);
    block.setUint16(8, LINKTYPE_ETHERNET, true);
    block.setUint16(16, IF_NAME, true);
    block.setUint16(18, encoded.length, true);
    new Uint8Array(block.buffer).set(encoded, 20);
    block.setUint16(20 + padded, IF_TSRESOL, true);
    block.setUint16(22 + padded, 1, true);
    block.setUint8(24 + padded, NANOSECONDS);
    block.setUint32(size - 4, size, true);
    this.write(new Uint8Array(block.buffer));
    this.#uses++;
    return new Capture(this, this.#interfaces++);
  }

  write(data: Uint8Array): void {
    const iovecs = new Iovecs(1);
    const copy = bytes(data.length);
    copy.set(data);
    iovecs.pushView(copy);
    this.writeIovecs(iovecs);
  }

  /** Writes one block. A file that cannot be written to, for want of space, ends here. */
  writeIovecs(iovecs: Iovecs): void {
    if (this.#failed) return;
    if (libc.writev(this.#fd.number, iovecs.words, iovecs.count) === iovecs.bytes) return;
    this.#failed = true;
    this.#log.error("The capture ends: its file cannot be written to");
  }

  /** Closes the file with the last of its interfaces. */
  [Symbol.dispose](): void {
    if (--this.#uses <= 0) this.#fd.close();
  }
}

/** One port's part of a capture. */
export class Capture implements Disposable {
  readonly #file: CaptureFile;
  readonly #iovecs = new Iovecs();
  readonly #head = new DataView(bytes(HEAD).buffer);
  readonly #headBytes = new Uint8Array(this.#head.buffer);
  readonly #tail = new DataView(bytes(3 + TAIL).buffer);

  constructor(file: CaptureFile, index: number) {
    this.#file = file;
    this.#head.setUint32(0, PACKET, true);
    this.#head.setUint32(8, index, true);
  }

  /** The guest has sent a frame. */
  sent(frame: Frame): void {
    this.#frame(frame, OUTBOUND);
  }

  /** The guest has got a frame. */
  received(frame: Frame): void {
    this.#frame(frame, INBOUND);
  }

  /** The guest has got the frame in `length` bytes of iovecs, of which `skip` are not its own. */
  receivedIovecs(source: Iovecs, skip: number, length: number): void {
    const { words } = source;
    this.#begin();
    let at = 0;
    for (let i = 0; at < length; i++) {
      const size = Math.min(words[(i << 2) + 2]!, length - at);
      const cut = Math.min(size, Math.max(0, skip - at));
      if (size > cut) this.#iovecs.push(source.address(i) + cut, size - cut);
      at += size;
    }
    this.#end(length - skip, INBOUND);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #frame({ chain, at, length }: Frame, direction: number): void {
    this.#begin();
    if (chain.readableIovecs(this.#iovecs, at, length)) this.#end(length, direction);
  }

  #begin(): void {
    this.#iovecs.clear();
    this.#iovecs.pushView(this.#headBytes);
  }

  #end(length: number, direction: number): void {
    const head = this.#head;
    const padding = -length & 3;
    const size = HEAD + length + padding + TAIL;
    const now = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
    head.setUint32(4, size, true);
    head.setUint32(12, Number(now >> 32n), true);
    head.setUint32(16, Number(now & 0xffffffffn), true);
    head.setUint32(20, length, true);
    head.setUint32(24, length, true);
    const tail = new Uint8Array(this.#tail.buffer, 3 - padding, padding + TAIL);
    this.#tail.setUint16(3, EPB_FLAGS, true);
    this.#tail.setUint16(5, 4, true);
    this.#tail.setUint32(7, direction, true);
    this.#tail.setUint32(11, 0, true);
    this.#tail.setUint32(15, size, true);
    this.#iovecs.pushView(tail);
    this.#file.writeIovecs(this.#iovecs);
  }
}
