/** What a disk should hold: per block, how often it was written. */
import { fillPattern, isPattern } from "./pattern.ts";

export class Journal {
  readonly blockSize: number;
  readonly blocks: number;
  /** Writes per block; 0 means that it still holds zeros. */
  readonly #generation: Uint32Array;
  /** 1 while a request for the block is in flight. */
  readonly #busy: Uint8Array;

  /** `blockSize` is in bytes, a multiple of 4. */
  constructor(blockSize: number, blocks: number) {
    this.blockSize = blockSize;
    this.blocks = blocks;
    this.#generation = new Uint32Array(blocks);
    this.#busy = new Uint8Array(blocks);
  }

  generation(block: number): number {
    return this.#generation[block]!;
  }

  /** Reserves `block`, or the next one after it that nothing is in flight for. -1 when all are. */
  take(block: number): number {
    for (let tried = 0; tried < this.blocks; tried++) {
      const candidate = (block + tried) % this.blocks;
      if (this.#busy[candidate] === 0) {
        this.#busy[candidate] = 1;
        return candidate;
      }
    }
    return -1;
  }

  done(block: number): void {
    this.#busy[block] = 0;
  }

  /** Fills `words` with the block's next content. */
  write(block: number, words: Uint32Array): void {
    const generation = ++this.#generation[block]!;
    fillPattern(words, 0, this.blockSize >> 2, block, generation);
  }

  /** The block holds zeros now. */
  zero(block: number): void {
    this.#generation[block] = 0;
  }

  /** Tells whether `words` is what the block should hold. */
  matches(block: number, words: Uint32Array): boolean {
    return isPattern(words, 0, this.blockSize >> 2, block, this.#generation[block]!);
  }
}
