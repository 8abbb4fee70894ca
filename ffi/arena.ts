/** Small pieces of memory that stay where they are, for C to keep: JavaScript's own arrays may move. */
import { runtime } from "./libc.ts";
import { PrivateMemory } from "./private-memory.ts";

/** The smallest piece and the largest one, in bytes; both are powers of two. */
const SMALLEST = 64;
const LARGEST = 2 ** 21;

/** A piece of memory. */
export interface Block {
  readonly address: number;
  /** In bytes; may be more than what was asked for. */
  readonly length: number;
  readonly words: Uint32Array<ArrayBuffer>;
}

/** Memory in pieces whose sizes are powers of two. It lives as long as the process. */
export class Arena {
  /** Pieces that were given back, by their size. */
  readonly #free = new Map<number, Block[]>();
  #chunk: PrivateMemory | null = null;
  #view: ArrayBuffer | null = null;
  /** Bytes of the chunk that were never in use. */
  #left = 0;

  /** Takes `bytes`, up to 2 MiB, of any content. Throws `SystemError` from mmap. */
  take(bytes: number): Block {
    if (!(bytes <= LARGEST)) throw new RangeError(`Cannot take ${bytes} bytes in one piece`);
    const length = Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(bytes)));
    return this.#free.get(length)?.pop() ?? this.#make(length);
  }

  /** Takes a piece back, which nobody may use any more. */
  giveBack(block: Block): void {
    const free = this.#free.get(block.length);
    if (free === undefined) this.#free.set(block.length, [block]);
    else free.push(block);
  }

  #make(length: number): Block {
    if (this.#left < length) {
      this.#chunk = new PrivateMemory(LARGEST, false);
      this.#view = runtime.view(this.#chunk.address, LARGEST);
      this.#left = LARGEST;
    }
    const offset = LARGEST - this.#left;
    this.#left -= length;
    const words = new Uint32Array(this.#view!, offset, length / 4);
    return { address: this.#chunk!.address + offset, length, words };
  }
}
