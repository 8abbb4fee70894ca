/**
 * Disjoint ranges of addresses, each with the address it leads to. Sorted, in blocks of a few hundred:
 * a change costs the same with ten ranges as with a hundred thousand.
 */

const CAPACITY = 256;
/** Neighbours that have become so small are put together. */
const SPARSE = CAPACITY / 4;

class Block {
  readonly starts = new Float64Array(CAPACITY);
  readonly ends = new Float64Array(CAPACITY);
  readonly targets = new Float64Array(CAPACITY);
  readonly access = new Uint8Array(CAPACITY);
  count = 0;

  /** The index of the last range that begins at or before `address`, -1 when there is none. */
  indexOf(address: number): number {
    const { starts } = this;
    let low = 0;
    let high = this.count - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (starts[middle]! <= address) low = middle + 1;
      else high = middle - 1;
    }
    return high;
  }

  set(i: number, start: number, end: number, target: number, access: number): void {
    this.starts[i] = start;
    this.ends[i] = end;
    this.targets[i] = target;
    this.access[i] = access;
  }

  insert(i: number, start: number, end: number, target: number, access: number): void {
    this.#move(i, i + 1);
    this.set(i, start, end, target, access);
  }

  remove(from: number, to: number): void {
    this.#move(to, from);
  }

  /** Moves the ranges from index `from` on to index `to`. */
  #move(from: number, to: number): void {
    const { count } = this;
    for (const column of [this.starts, this.ends, this.targets, this.access]) {
      column.copyWithin(to, from, count);
    }
    this.count = count + to - from;
  }

  /** Appends the ranges of `other` from index `from` on. */
  append(other: Block, from: number): void {
    const { count } = this;
    this.starts.set(other.starts.subarray(from, other.count), count);
    this.ends.set(other.ends.subarray(from, other.count), count);
    this.targets.set(other.targets.subarray(from, other.count), count);
    this.access.set(other.access.subarray(from, other.count), count);
    this.count = count + other.count - from;
  }
}

export class RangeMap {
  /** None is empty. */
  #blocks: Block[] = [];
  #size = 0;
  /** The range that `seek` found. */
  start = 0;
  end = 0;
  target = 0;
  access = 0;
  /** Where the last search ended. */
  #block = -1;
  #index = -1;

  /** Ranges there are. */
  get size(): number {
    return this.#size;
  }

  /** Finds the range that holds `address`. */
  seek(address: number): boolean {
    return this.#locate(address) && this.#load() && address < this.end;
  }

  /** Finds the first range that ends after `address`. */
  seekFrom(address: number): boolean {
    if (this.seek(address)) return true;
    this.#index++;
    if (this.#block < 0) this.#block = 0;
    else if (this.#index === this.#blocks[this.#block]!.count) {
      this.#block++;
      this.#index = 0;
    }
    return this.#block < this.#blocks.length && this.#load();
  }

  /** Makes `start` up to `end` lead to `target` and what follows it, whatever was there before. */
  set(start: number, end: number, target: number, access: number): void {
    this.delete(start, end);
    this.#insert(start, end, target, access);
  }

  /** Takes everything from `start` up to `end` away. What reaches beyond is cut. */
  delete(start: number, end: number): void {
    if (this.seek(start) && this.start < start) {
      const { end: oldEnd, target, access } = this;
      const offset = end - this.start;
      this.#blocks[this.#block]!.ends[this.#index] = start;
      if (oldEnd > end) return this.#insert(end, oldEnd, target + offset, access);
    }
    if (this.seek(end) && this.start < end) {
      const { start: oldStart, end: oldEnd, target, access } = this;
      this.#blocks[this.#block]!.set(this.#index, end, oldEnd, target + end - oldStart, access);
    }
    this.#deleteWhole(start, end);
  }

  clear(): void {
    this.#blocks = [];
    this.#size = 0;
  }

  /** Takes some ranges away, a few hundred of very many. `seed` is any number. */
  evict(seed: number): void {
    const at = seed % this.#blocks.length;
    this.#size -= this.#blocks[at]!.count;
    this.#blocks.splice(at, 1);
  }

  /** Finds the last range that begins at or before `address`. */
  #locate(address: number): boolean {
    const blocks = this.#blocks;
    let low = 0;
    let high = blocks.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (blocks[middle]!.starts[0]! <= address) low = middle + 1;
      else high = middle - 1;
    }
    this.#block = high;
    this.#index = high < 0 ? -1 : blocks[high]!.indexOf(address);
    return high >= 0;
  }

  #load(): true {
    const block = this.#blocks[this.#block]!;
    const i = this.#index;
    this.start = block.starts[i]!;
    this.end = block.ends[i]!;
    this.target = block.targets[i]!;
    this.access = block.access[i]!;
    return true;
  }

  /** Adds a range where there is none. */
  #insert(start: number, end: number, target: number, access: number): void {
    const blocks = this.#blocks;
    if (!this.#locate(start)) {
      this.#block = 0;
      if (blocks.length === 0) blocks.push(new Block());
    }
    let block = blocks[this.#block]!;
    let at = this.#index + 1;
    if (block.count === CAPACITY) {
      // Ranges that come in ascending order fill their blocks.
      const middle = at === CAPACITY ? CAPACITY : CAPACITY / 2;
      const next = new Block();
      next.append(block, middle);
      block.count = middle;
      blocks.splice(this.#block + 1, 0, next);
      if (at > middle || middle === CAPACITY) {
        block = next;
        at -= middle;
      }
    }
    block.insert(at, start, end, target, access);
    this.#size++;
  }

  /** Takes the ranges away that begin from `start` on and before `end`. */
  #deleteWhole(start: number, end: number): void {
    const blocks = this.#blocks;
    this.#locate(start);
    const first = Math.max(0, this.#block);
    let empty = 0;
    let firstEmpty = first;
    for (let i = first; i < blocks.length && blocks[i]!.starts[0]! < end; i++) {
      const block = blocks[i]!;
      let from = block.indexOf(start);
      if (from < 0 || block.starts[from]! < start) from++;
      const last = block.indexOf(end);
      const to = last >= 0 && block.starts[last]! >= end ? last : last + 1;
      if (to <= from) continue;
      this.#size -= to - from;
      block.remove(from, to);
      if (block.count > 0) continue;
      if (empty++ === 0) firstEmpty = i;
    }
    // Those in the middle of what was deleted follow one another.
    if (empty > 0) blocks.splice(firstEmpty, empty);
    for (let at = first + 1; at >= first - 1; at--) this.#join(at);
  }

  /** Puts a block and the next one together if they are small. */
  #join(at: number): void {
    const block = this.#blocks[at];
    const next = this.#blocks[at + 1];
    if (block === undefined || next === undefined || block.count + next.count > SPARSE) return;
    block.append(next, 0);
    this.#blocks.splice(at + 1, 1);
  }
}
