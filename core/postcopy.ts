/**
 * The destination's side of a postcopy migration (vhost-user: Front-end message types,
 * POSTCOPY_ADVISE to POSTCOPY_END).
 *
 * From POSTCOPY_LISTEN to POSTCOPY_END the guest's pages come one by one. Touching one that has not
 * come puts this thread to sleep until the front-end, which reads the userfaultfd, has filled it.
 */
import { awaitPages, createUserfault, endAwaitingPages, type Fd } from "../ffi/mod.ts";
import type { Chain } from "./chain.ts";
import type { Message } from "./connection.ts";
import { ProtocolError } from "./errors.ts";
import type { GuestMemory, PageSource } from "./memory.ts";
import { PostcopyWatch } from "./postcopy-watch.ts";

const PAGE = 4096;

export class Postcopy implements PageSource, Disposable {
  /** To be passed to the front-end. */
  readonly fd: Fd;
  readonly #memory: GuestMemory;
  readonly #watch: PostcopyWatch;
  /** The message that must come next: the front-end knows our addresses and serves faults. */
  #awaited: string | null = null;

  /** `socket`: the front-end's. Throws with the reason where the kernel does not let us. */
  constructor(memory: GuestMemory, socket: Fd) {
    this.fd = createUserfault();
    this.#memory = memory;
    this.#watch = new PostcopyWatch(socket, this.fd);
  }

  get listening(): boolean {
    return this.#memory.source === this;
  }

  /** The memory tables that come from now on have no pages yet. */
  listen(): void {
    if (this.listening) throw new ProtocolError("the back-end listens already");
    if (this.#memory.regions.length > 0) {
      throw new ProtocolError("there is guest memory already, which may have been used");
    }
    this.#watch.ready();
    this.#memory.source = this;
  }

  awaitPages(address: number, length: number): void {
    awaitPages(this.fd, address, length);
    this.#watch.add(address, length);
  }

  receive(chain: Chain): boolean {
    if (this.fd.closed) return true;
    for (let i = 0; i < chain.readableCount; i++) {
      const bytes = chain.readable(i);
      // Atomics, because engines may leave out a plain load that nobody uses.
      for (let at = 0; at < bytes.length; at += PAGE) Atomics.load(bytes, at);
      // The last page begins anywhere in a step.
      Atomics.load(bytes, bytes.length - 1);
    }
    return !this.#watch.lost;
  }

  /** The front-end learns our addresses and answers with an empty `name`. */
  awaitAnswer(name: string): void {
    this.#awaited = name;
  }

  /** Tells whether a message is the answer. Throws when another one comes instead. */
  isAnswer(message: Message): boolean {
    const awaited = this.#awaited;
    if (awaited === null) return false;
    if (message.name !== awaited) {
      const text = `${message.name} came where the front-end must answer ${awaited}`;
      throw new ProtocolError(text, { fatal: true });
    }
    return true;
  }

  /** The answer has come: guest memory may be used. */
  answered(): void {
    this.#awaited = null;
  }

  /** All pages are there, or will never come: those that are missing are zeros from now on. */
  [Symbol.dispose](): void {
    if (this.fd.closed) return;
    this.#watch[Symbol.dispose]();
    if (this.listening) {
      this.#memory.source = null;
      // The front-end has the descriptor too: closing ours would not be enough.
      for (const { range } of this.#memory.regions) {
        endAwaitingPages(this.fd, range.address, range.length);
      }
    }
    this.fd.close();
  }
}
