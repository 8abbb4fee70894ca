/** How much memory of the host a guest may take: it can ask for any amount. */

export class HostMemory {
  /** In bytes. */
  readonly limit: number;
  #used = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Bytes that are taken. */
  get used(): number {
    return this.#used;
  }

  /** Takes `bytes`. False when there are not as many left. */
  take(bytes: number): boolean {
    if (!(bytes <= this.limit - this.#used)) return false;
    this.#used += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#used -= bytes;
  }
}
