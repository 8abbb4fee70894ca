/**
 * Data that tells where it belongs and when it was written: block number and generation give every
 * word of a block. Generation 0 is a block never written, all zeros.
 */

/** A mix of two numbers that differs for neighbours (the finalizer of MurmurHash3). */
function seedOf(block: number, generation: number): number {
  let h = Math.imul(block ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(generation, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) | 1;
}

/** Fills `count` words from `at` on with the data of a block. */
export function fillPattern(
  words: Uint32Array,
  at: number,
  count: number,
  block: number,
  generation: number,
): void {
  const end = at + count;
  if (generation === 0) {
    words.fill(0, at, end);
    return;
  }
  // A linear congruential sequence: never repeats within a block, and costs one multiplication.
  let value = seedOf(block, generation);
  for (let i = at; i < end; i++) {
    value = (Math.imul(value, 1664525) + 1013904223) | 0;
    words[i] = value;
  }
}

/** Tells whether `count` words from `at` on are the data of a block. */
export function isPattern(
  words: Uint32Array,
  at: number,
  count: number,
  block: number,
  generation: number,
): boolean {
  const end = at + count;
  let value = generation === 0 ? 0 : seedOf(block, generation);
  let wrong = 0;
  for (let i = at; i < end; i++) {
    if (generation !== 0) value = (Math.imul(value, 1664525) + 1013904223) | 0;
    wrong |= words[i]! ^ value;
  }
  return wrong === 0;
}
