/**
 * A stream socket, as QEMU's `-netdev stream` and passt have it: each frame after its length, four
 * bytes in network order. Nothing is lost here: whoever cannot take more makes the other side wait.
 */
import { type BoundSocket, bindSocket } from "../../../core/bind-socket.ts";
import { HostChain } from "../../../core/host-chain.ts";
import type { Host, Watch } from "../../../core/mod.ts";
import {
  accept,
  connectUnix,
  EAGAIN,
  EINTR,
  EPOLLIN,
  EPOLLOUT,
  errno,
  errnoText,
  type Fd,
  Iovecs,
  libc,
  SystemError,
} from "../../../ffi/mod.ts";
import { Frame } from "../frame.ts";
import { type GuestSide, type Port, Sent } from "../port.ts";
import { Outcome } from "../receiver.ts";
import { ETHERNET_HEADER, MAX_FRAME } from "../wire.ts";

const LENGTH_SIZE = 4;
/** Bytes read at once; several of the longest frames. */
const BUFFER = 512 * 1024;
/** How often a peer that is gone is looked for, in milliseconds. */
const RETRY = 500;

export type StreamAddress =
  | { readonly connect: string; readonly listen?: undefined }
  | { readonly listen: string; readonly connect?: undefined };

function explain(what: string, error: unknown): Error {
  const why = error instanceof SystemError ? errnoText(error.errno) : String(error);
  return new Error(`Cannot ${what}: ${why}`, { cause: error });
}

export class StreamPort implements Port {
  readonly offloads = [];
  readonly #host: Host<any>;
  readonly #address: StreamAddress;
  readonly #input = new HostChain(BUFFER);
  readonly #frame = new Frame();
  readonly #iovecs = new Iovecs();
  /** What a short write has left, and the length of a frame that is being sent. */
  readonly #output = new HostChain(MAX_FRAME + LENGTH_SIZE);
  readonly #outputView: DataView<ArrayBuffer>;
  readonly #inputView: DataView<ArrayBuffer>;
  #outputAt = 0;
  #outputEnd = 0;
  /** What was read and not delivered. */
  #start = 0;
  #end = 0;
  #guest!: GuestSide;
  #peer: Fd | null = null;
  #watch: Watch | null = null;
  #listener: BoundSocket | null = null;
  #listenerWatch: Disposable | null = null;
  #retry: Disposable | null = null;
  /** The guest has no buffers. */
  #full = false;
  /** The guest's queue waits for the peer. */
  #blocked = false;

  /** Throws `Error` when nobody listens, or somebody does already. */
  constructor(address: StreamAddress, host: Host<any>) {
    this.#address = address;
    this.#host = host;
    this.#outputView = new DataView(this.#output.bytes.buffer);
    this.#inputView = new DataView(this.#input.bytes.buffer);
    if (address.listen !== undefined) this.#listen(address.listen);
    else this.#use(this.#connect());
  }

  get link(): boolean {
    return this.#peer !== null;
  }

  attach(guest: GuestSide): void {
    this.#guest = guest;
  }

  wake(pair: number): void {
    if (pair !== 0 || !this.#full) return;
    this.#full = false;
    this.#deliver();
    this.#guest.receivers[0]!.publish();
    this.#watchWhatIsWanted();
  }

  send(frame: Frame): number {
    const peer = this.#peer;
    if (peer === null) return Sent.DROPPED;
    if (this.#outputEnd > 0) return this.#wait();
    const iovecs = this.#iovecs;
    this.#outputView.setUint32(0, frame.length);
    iovecs.clear();
    iovecs.push(this.#output.address, LENGTH_SIZE);
    if (!frame.chain.readableIovecs(iovecs, frame.at, frame.length)) return Sent.DROPPED;
    const sent = libc.writev(peer.number, iovecs.words, iovecs.count);
    if (sent === iovecs.bytes) return Sent.DONE;
    if (sent < 0) {
      const why = errno();
      if (why === EAGAIN || why === EINTR) return this.#wait();
      this.#lose(errnoText(why));
      return Sent.DROPPED;
    }
    // The rest is copied: the guest may have its memory back.
    const { bytes } = this.#output;
    frame.chain.read(bytes.subarray(LENGTH_SIZE, LENGTH_SIZE + frame.length), frame.at);
    this.#outputAt = sent;
    this.#outputEnd = LENGTH_SIZE + frame.length;
    this.#watchWhatIsWanted();
    return Sent.DONE;
  }

  [Symbol.dispose](): void {
    this.#retry?.[Symbol.dispose]();
    this.#dropPeer();
    this.#listenerWatch?.[Symbol.dispose]();
    this.#listener?.unlink();
    this.#listener?.fd.close();
    this.#input[Symbol.dispose]();
    this.#output[Symbol.dispose]();
  }

  #listen(path: string): void {
    this.#listener = bindSocket(path);
    const { fd } = this.#listener;
    this.#listenerWatch = this.#host.watch(fd.number, () => {
      const peer = accept(fd);
      if (peer === null) return;
      // The latest one counts: an earlier one may be gone without a word.
      this.#dropPeer();
      this.#use(peer);
      this.#guest.setLink(true);
    });
  }

  #connect(): Fd {
    const path = this.#address.connect!;
    try {
      return connectUnix(path);
    } catch (error) {
      throw explain(`connect to "${path}"`, error);
    }
  }

  #use(peer: Fd): void {
    peer.setNonBlocking();
    this.#peer = peer;
    this.#watch = this.#host.watch(peer.number, (events) => this.#ready(events));
  }

  #ready(events: number): void {
    if ((events & EPOLLOUT) !== 0 && this.#outputEnd > 0) this.#flushOutput();
    else if (this.#blocked) this.#unblock();
    if ((events & ~EPOLLOUT) !== 0 && !this.#full) this.#read();
    if (this.#peer !== null) this.#watchWhatIsWanted();
  }

  #read(): void {
    const iovecs = this.#iovecs;
    iovecs.clear();
    iovecs.push(this.#input.address + this.#end, BUFFER - this.#end);
    const got = libc.readv(this.#peer!.number, iovecs.words, 1);
    if (got === 0) return this.#lose("it closed the connection");
    if (got < 0) {
      const why = errno();
      if (why !== EAGAIN && why !== EINTR) this.#lose(errnoText(why));
      return;
    }
    this.#end += got;
    this.#deliver();
    this.#guest.receivers[0]!.publish();
  }

  /** Delivers whole frames until there are none or the guest has no buffers. */
  #deliver(): void {
    const receiver = this.#guest.receivers[0]!;
    while (this.#end - this.#start >= LENGTH_SIZE) {
      const length = this.#inputView.getUint32(this.#start);
      if (length > MAX_FRAME) return this.#lose(`it sent a frame of ${length} bytes`);
      if (this.#end - this.#start < LENGTH_SIZE + length) break;
      if (length >= ETHERNET_HEADER) {
        this.#input.select(this.#start + LENGTH_SIZE, length);
        this.#frame.plain(this.#input, 0, length);
        if (receiver.offer(this.#frame) === Outcome.NO_BUFFERS) {
          this.#full = true;
          break;
        }
      }
      this.#start += LENGTH_SIZE + length;
    }
    this.#input.bytes.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
  }

  #wait(): number {
    this.#blocked = true;
    this.#watchWhatIsWanted();
    return Sent.WAIT;
  }

  #flushOutput(): void {
    const iovecs = this.#iovecs;
    iovecs.clear();
    iovecs.push(this.#output.address + this.#outputAt, this.#outputEnd - this.#outputAt);
    const sent = libc.writev(this.#peer!.number, iovecs.words, 1);
    if (sent < 0) {
      const why = errno();
      if (why !== EAGAIN && why !== EINTR) this.#lose(errnoText(why));
      return;
    }
    this.#outputAt += sent;
    if (this.#outputAt < this.#outputEnd) return;
    this.#outputAt = 0;
    this.#outputEnd = 0;
    if (this.#blocked) this.#unblock();
  }

  #unblock(): void {
    this.#blocked = false;
    this.#guest.resume();
  }

  #watchWhatIsWanted(): void {
    const output = this.#blocked || this.#outputEnd > 0 ? EPOLLOUT : 0;
    this.#watch?.modify((this.#full ? 0 : EPOLLIN) | output);
  }

  #dropPeer(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = null;
    this.#peer?.close();
    this.#peer = null;
    this.#start = 0;
    this.#end = 0;
    this.#outputAt = 0;
    this.#outputEnd = 0;
    this.#full = false;
  }

  #lose(why: string): void {
    this.#host.log.warn("The stream's peer is gone", { reason: why });
    this.#dropPeer();
    this.#guest.setLink(false);
    if (this.#blocked) this.#unblock();
    if (this.#address.connect === undefined) return;
    this.#retry ??= this.#host.every(RETRY, () => this.#reconnect());
  }

  #reconnect(): void {
    try {
      this.#use(this.#connect());
    } catch {
      return;
    }
    this.#retry?.[Symbol.dispose]();
    this.#retry = null;
    this.#host.log.info("The stream's peer is there again");
    this.#guest.setLink(true);
  }
}
