/** One line on a terminal that says how far a run is. */
const INTERVAL = 200;

export class Progress implements Disposable {
  readonly #tty = process.stderr.isTTY === true;
  #shown = 0;

  /** Shows a line now and then. */
  show(text: () => string): void {
    const now = performance.now();
    if (!this.#tty || now - this.#shown < INTERVAL) return;
    this.#shown = now;
    process.stderr.write(`\r\x1b[K${text().slice(0, (process.stderr.columns ?? 80) - 1)}`);
  }

  [Symbol.dispose](): void {
    if (this.#tty && this.#shown > 0) process.stderr.write("\r\x1b[K");
  }
}
