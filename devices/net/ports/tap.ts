/**
 * A tap interface of the kernel, one descriptor for each queue pair. Frames go to and from the guest's
 * buffers without a copy of ours, with the header that tells what is left to be done to them.
 */

import { HostChain } from "../../../core/host-chain.ts";
import type { Host, Watch } from "../../../core/mod.ts";
import {
  configureTap,
  detachTap,
  EINVAL,
  EPOLLIN,
  errnoText,
  Fd,
  Iovecs,
  libc,
  openTap,
  SystemError,
  TapOffload,
  tapFlags,
  tapName,
} from "../../../ffi/mod.ts";
import type { Frame } from "../frame.ts";
import { allOffloads, noOffloads, type Offloads } from "../offloads.ts";
import { type GuestSide, type Port, type PortSettings, Sent } from "../port.ts";
import { Outcome } from "../receiver.ts";
import { Header, type NetFeatureName } from "../wire.ts";

/** Frames read before other descriptors get their turn. */
const BURST = 64;
/** How often an interface that is down is tried again, in milliseconds. */
const RETRY = 500;

const USO = TapOffload.USO4 | TapOffload.USO6;

/** Opens `pairs` queues of an interface. Throws `Error` when that is not possible. */
export function openTapQueues(name: string, pairs: number): Fd[] {
  const fds: Fd[] = [];
  try {
    while (fds.length < pairs) fds.push(openQueue(name, pairs > 1));
    return fds;
  } catch (error) {
    for (const fd of fds) fd.close();
    if (!(error instanceof SystemError)) throw error;
    throw new Error(`Cannot open the tap interface "${name}": ${errnoText(error.errno)}`, {
      cause: error,
    });
  }
}

function openQueue(name: string, multi: boolean): Fd {
  try {
    return openTap(name, multi);
  } catch (error) {
    // It was made for several queues, of which one is enough.
    if (multi || !(error instanceof SystemError) || error.errno !== EINVAL) throw error;
    return openTap(name, true);
  }
}

/** Takes inherited descriptors, `text` as `5,6`. Throws `Error` when they are no taps with headers. */
export function inheritTapQueues(text: string, pairs: number): Fd[] {
  const numbers = text.split(",").map(Number);
  if (numbers.length !== pairs || !numbers.every((n) => Number.isInteger(n) && n > 2)) {
    throw new Error(
      `Cannot use --tap-fd=${text}: it takes one descriptor per queue pair, ${pairs}`,
    );
  }
  const fds = numbers.map((number) => new Fd(number));
  for (const fd of fds) {
    let fits = false;
    try {
      const { tap, header } = tapFlags(fd);
      fits = tap && header;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
    }
    if (!fits) {
      throw new Error(`Cannot use --tap-fd=${text}: ${fd.number} is no tap with IFF_VNET_HDR`);
    }
    fd.setNonBlocking();
  }
  return fds;
}

/** The kernel's names of what the reader takes. */
function offloadBits(offloads: Offloads): number {
  // The kernel leaves nothing else open without the checksum.
  if (!offloads.csum) return 0;
  const { CSUM, TSO4, TSO6, ECN, UFO } = TapOffload;
  return (
    CSUM |
    (offloads.tso4 ? TSO4 : 0) |
    (offloads.tso6 ? TSO6 : 0) |
    (offloads.ecn && (offloads.tso4 || offloads.tso6) ? ECN : 0) |
    (offloads.ufo ? UFO : 0) |
    (offloads.uso4 && offloads.uso6 ? USO : 0)
  );
}

/** Kernels before 6.2 know no USO, and some no UFO. */
function configureAsPossible(fd: Fd, headerSize: number, offloads: number): number {
  for (const left of [offloads, offloads & ~USO, offloads & ~(USO | TapOffload.UFO)]) {
    try {
      configureTap(fd, headerSize, left);
      return left;
    } catch (error) {
      if (!(error instanceof SystemError) || error.errno !== EINVAL) throw error;
    }
  }
  configureTap(fd, headerSize, 0);
  return 0;
}

interface Queue {
  readonly fd: Fd;
  readonly watch: Watch;
  /** It is watched, or left alone. */
  watching: boolean;
  /** The kernel distributes frames to it. */
  attached: boolean;
}

export class TapPort implements Port {
  readonly offloads: readonly NetFeatureName[];
  readonly link = true;
  readonly #queues: readonly Queue[];
  readonly #host: Host<any>;
  readonly #iovecs = new Iovecs();
  readonly #header = new HostChain(Header.size);
  readonly #headerView: DataView<ArrayBuffer>;
  #headerSize: number = Header.size;
  #guest!: GuestSide;
  #retry: Disposable | null = null;

  /** Takes the descriptors. */
  constructor(fds: readonly Fd[], host: Host<any>) {
    this.#host = host;
    this.#headerView = new DataView(this.#header.bytes.buffer);
    const possible = configureAsPossible(fds[0]!, Header.size, 0x7f);
    configureTap(fds[0]!, Header.size, offloadBits(noOffloads));
    this.offloads = allOffloads.filter((name) => (possible & USO) !== 0 || !name.includes("USO"));
    this.#queues = fds.map((fd, i) => {
      const watch = host.watch(fd.number, () => this.#read(i), EPOLLIN);
      watch.modify(0);
      if (i > 0) detachTap(fd, true);
      return { fd, watch, watching: false, attached: i === 0 };
    });
    host.log.debug("The tap interface is open", { name: tapName(fds[0]!), queues: fds.length });
  }

  attach(guest: GuestSide): void {
    this.#guest = guest;
  }

  configure({ headerSize, offloads }: PortSettings): void {
    this.#headerSize = headerSize;
    configureAsPossible(this.#queues[0]!.fd, headerSize, offloadBits(offloads));
  }

  wake(pair: number): void {
    const queue = this.#queues[pair]!;
    if (queue.watching) return;
    if (!queue.attached) this.#setAttached(queue, true);
    queue.watching = true;
    queue.watch.modify(EPOLLIN);
  }

  sleep(pair: number): void {
    const queue = this.#queues[pair]!;
    this.#pause(queue);
    if (pair > 0 && queue.attached) this.#setAttached(queue, false);
  }

  send(frame: Frame, pair: number): number {
    const iovecs = this.#iovecs;
    const size = this.#headerSize;
    const queue = this.#queues[pair]!;
    const { fd } = queue.attached ? queue : this.#queues[0]!;
    frame.encodeHeader(this.#headerView, size, 0);
    iovecs.clear();
    iovecs.push(this.#header.address, size);
    if (!frame.chain.readableIovecs(iovecs, frame.at, frame.length)) return Sent.DROPPED;
    const count = libc.writev(fd.number, iovecs.words, iovecs.count);
    return count < 0 ? Sent.DROPPED : Sent.DONE;
  }

  [Symbol.dispose](): void {
    this.#retry?.[Symbol.dispose]();
    for (const { fd, watch } of this.#queues) {
      watch[Symbol.dispose]();
      fd.close();
    }
    this.#header[Symbol.dispose]();
  }

  #read(pair: number): void {
    const receiver = this.#guest.receivers[pair]!;
    const queue = this.#queues[pair]!;
    const fd = queue.fd.number;
    for (let left = BURST; left > 0; left--) {
      const outcome = receiver.readFrom(fd);
      if (outcome === Outcome.NOTHING) break;
      if (outcome === Outcome.NO_BUFFERS) {
        this.#pause(queue);
        break;
      }
      if (outcome === Outcome.FAILED) {
        this.#failed(queue);
        break;
      }
    }
    receiver.publish();
  }

  #pause(queue: Queue): void {
    if (!queue.watching) return;
    queue.watching = false;
    queue.watch.modify(0);
  }

  /** The interface is down, most likely. Nothing tells when it is up again. */
  #failed(queue: Queue): void {
    this.#pause(queue);
    this.#guest.setLink(false);
    this.#retry ??= this.#host.every(RETRY, () => this.#tryAgain());
  }

  #tryAgain(): void {
    this.#retry?.[Symbol.dispose]();
    this.#retry = null;
    this.#guest.setLink(true);
    this.#queues.forEach((queue, pair) => {
      if (this.#guest.receivers[pair]!.running && queue.attached) this.wake(pair);
    });
  }

  #setAttached(queue: Queue, attached: boolean): void {
    detachTap(queue.fd, !attached);
    queue.attached = attached;
  }
}
