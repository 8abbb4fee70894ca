/**
 * Fences: a command that has one is answered when the renderer has done all that came before it
 * (virtio 1.3, 5.7.6.7). They pass in order, for a driver takes one for all those before it.
 */
import type { Chain, HeldChain } from "../../../core/chain.ts";
import { type Host, PENDING } from "../../../core/device.ts";
import { Header, HeaderFlag } from "../wire.ts";
import type { Renderer } from "./renderer.ts";

/** How often fences are looked at while there are any, in milliseconds. */
const INTERVAL = 1;

/** A command that has been carried out as far as we are concerned. */
interface Waiting {
  readonly fence: number;
  readonly chain: HeldChain;
  /** Bytes of its response, which is written. */
  readonly written: number;
}

export class Fences {
  readonly #renderer: Renderer;
  readonly #host: Pick<Host, "every">;
  readonly #waiting: Waiting[] = [];
  #timer: Disposable | null = null;
  /** The renderer has got work since the last fence. */
  #busy = false;

  constructor(renderer: Renderer, host: Pick<Host, "every">) {
    this.#renderer = renderer;
    this.#host = host;
  }

  /** The renderer gets work. */
  work(): void {
    this.#busy = true;
  }

  /** Ends a command whose response is written, now or when its fence has passed. */
  end(chain: Chain, written: number): number {
    if (written < 0 || chain.readableBytes < Header.size) return written;
    if ((chain.readU32(Header.flags) & HeaderFlag.FENCE) === 0) return written;
    if (!this.#busy && this.#waiting.length === 0) return written;
    const fence = this.#renderer.fence();
    // Without a fence there is nothing to wait for, but what waits already.
    const last = this.#waiting.at(-1)?.fence ?? 0;
    if (fence === 0 && last === 0) return written;
    this.#busy = false;
    this.#waiting.push({ fence: fence === 0 ? last : fence, chain: chain.hold(), written });
    this.#timer ??= this.#host.every(INTERVAL, () => this.look());
    return PENDING;
  }

  /** Answers what has passed. */
  look(): void {
    if (this.#waiting.length === 0) return;
    this.#renderer.poll();
    const { passed } = this.#renderer;
    let count = 0;
    while (count < this.#waiting.length && isUpTo(this.#waiting[count]!.fence, passed)) count++;
    this.#settle(count);
  }

  /** Answers all: the queue stops. The renderer goes on in the order in which it got its work. */
  giveUp(): void {
    this.#settle(this.#waiting.length);
  }

  #settle(count: number): void {
    for (const { chain, written } of this.#waiting.splice(0, count)) {
      if (chain.live) chain.complete(written);
    }
    if (this.#waiting.length > 0) return;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
  }
}

/** Fences are counted in 31 bits, and begin again. */
function isUpTo(fence: number, passed: number): boolean {
  return ((passed - fence) & 0x7fffffff) < 0x40000000;
}
