/** Requests that a back-end before us had taken and not completed: they are submitted again first. */
export class Replay<Request> {
  readonly #waiting: Request[];
  /** Those that were submitted, the latest one last. */
  readonly #submitted: Request[] = [];
  /** Chains taken from the ring itself. Only whether there are any matters. */
  #fresh = 0;

  constructor(requests: readonly Request[] = []) {
    this.#waiting = [...requests];
  }

  /** Those that are still to come, the next one first. */
  get waiting(): readonly Request[] {
    return this.#waiting;
  }

  /** The next one was taken. */
  submitted(): void {
    this.#submitted.push(this.#waiting.shift()!);
  }

  /** A chain was taken from the ring. */
  taken(): void {
    this.#fresh++;
  }

  /**
   * The chain taken last was put back. Returns true when it is one of these, and the next one again: they were
   * taken before anything else.
   */
  putBack(): boolean {
    if (this.#fresh > 0 || this.#submitted.length === 0) {
      this.#fresh--;
      return false;
    }
    this.#waiting.unshift(this.#submitted.pop()!);
    return true;
  }
}
