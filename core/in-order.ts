/**
 * Completion in the order of availability, for devices that promise IN_ORDER (virtio 1.3, 2.7.9 and
 * 2.8.8) and complete as it suits them: what is completed early waits for its predecessors.
 */

const TAKEN = 1;
const COMPLETED = 2;

export class InOrder {
  /** Bytes written into the chain that `next` returned. */
  written = 0;
  /** Heads in the order they were taken: a queue on a ring. */
  readonly #heads: Uint16Array<ArrayBuffer>;
  #oldest = 0;
  #count = 0;
  readonly #state: Uint8Array<ArrayBuffer>;
  readonly #written: Uint32Array<ArrayBuffer>;

  /** `size` chains in flight at most, with heads below `heads`. */
  constructor(size: number, heads: number) {
    this.#heads = new Uint16Array(size);
    this.#state = new Uint8Array(heads);
    this.#written = new Uint32Array(heads);
  }

  take(head: number): void {
    const at = this.#oldest + this.#count++;
    this.#heads[at < this.#heads.length ? at : at - this.#heads.length] = head;
    this.#state[head] = TAKEN;
  }

  /** Undoes the latest `take`. */
  putBack(head: number): void {
    this.#count--;
    this.#state[head] = 0;
  }

  complete(head: number, written: number): void {
    this.#state[head] = COMPLETED;
    this.#written[head] = written;
  }

  /** True for a head that `complete` was told of and `next` has not returned. */
  waits(head: number): boolean {
    return this.#state[head] === COMPLETED;
  }

  /** Takes out the oldest head if it is completed, -1 otherwise. */
  next(): number {
    if (this.#count === 0) return -1;
    const head = this.#heads[this.#oldest]!;
    if (this.#state[head] !== COMPLETED) return -1;
    this.#state[head] = 0;
    this.#count--;
    if (++this.#oldest === this.#heads.length) this.#oldest = 0;
    this.written = this.#written[head]!;
    return head;
  }
}
