/** Rectangles that changed and were not shown yet. A bounded number: beyond it they are joined. */

const CAPACITY = 16;
/** A rectangle is left, top, right and bottom; the last two are exclusive. */
const WORDS = 4;

export class DirtyRegion {
  /** How many rectangles there are. */
  count = 0;
  readonly #words = new Int32Array(CAPACITY * WORDS);

  clear(): void {
    this.count = 0;
  }

  left(i: number): number {
    return this.#words[i * WORDS]!;
  }

  top(i: number): number {
    return this.#words[i * WORDS + 1]!;
  }

  right(i: number): number {
    return this.#words[i * WORDS + 2]!;
  }

  bottom(i: number): number {
    return this.#words[i * WORDS + 3]!;
  }

  /** Adds a rectangle that is not empty. */
  add(x: number, y: number, width: number, height: number): void {
    const right = x + width;
    const bottom = y + height;
    for (let i = this.count - 1; i >= 0; i--) {
      if (this.#holds(i, x, y, right, bottom)) return;
      if (this.left(i) >= x && this.top(i) >= y && this.right(i) <= right) {
        if (this.bottom(i) <= bottom) this.#remove(i);
      }
    }
    if (this.count === CAPACITY) this.#join();
    this.#set(this.count++, x, y, right, bottom);
  }

  /** Takes the first `rows` rows off the last rectangle. */
  shorten(rows: number): void {
    const last = this.count - 1;
    const top = this.top(last) + rows;
    if (top >= this.bottom(last)) this.count = last;
    else this.#words[last * WORDS + 1] = top;
  }

  #holds(i: number, x: number, y: number, right: number, bottom: number): boolean {
    return (
      this.left(i) <= x && this.top(i) <= y && this.right(i) >= right && this.bottom(i) >= bottom
    );
  }

  #set(i: number, left: number, top: number, right: number, bottom: number): void {
    const words = this.#words;
    const at = i * WORDS;
    words[at] = left;
    words[at + 1] = top;
    words[at + 2] = right;
    words[at + 3] = bottom;
  }

  #remove(i: number): void {
    const last = --this.count;
    this.#words.copyWithin(i * WORDS, last * WORDS, (last + 1) * WORDS);
  }

  /** Makes all of them one. */
  #join(): void {
    let left = this.left(0);
    let top = this.top(0);
    let right = this.right(0);
    let bottom = this.bottom(0);
    for (let i = 1; i < this.count; i++) {
      left = Math.min(left, this.left(i));
      top = Math.min(top, this.top(i));
      right = Math.max(right, this.right(i));
      bottom = Math.max(bottom, this.bottom(i));
    }
    this.#set(0, left, top, right, bottom);
    this.count = 1;
  }
}
