/** Lines of a pipe, a terminal or a socket, read no faster than they are wanted. */
import type { Host } from "../../../core/device.ts";
import { bytes, EAGAIN, EINTR, errno, errnoText, type Fd, libc } from "../../../ffi/mod.ts";

const READ_SIZE = 4096;
/** Characters of a line. */
const MAX_LINE = 65_536;

export class LineStream implements Disposable {
  readonly #fd: Fd;
  readonly #host: Host;
  readonly #wake: () => void;
  readonly #decoder = new TextDecoder();
  readonly #data = bytes(READ_SIZE);
  #lines: string[] = [];
  #rest = "";
  #ended = false;
  #watch: Disposable | null = null;

  /** Takes `fd`. `wake` is called when there is something to do after `next` has found nothing. */
  constructor(fd: Fd, host: Host, wake: () => void) {
    this.#fd = fd;
    this.#host = host;
    this.#wake = wake;
  }

  /** True when there will be no more lines. */
  get ended(): boolean {
    return this.#ended && this.#lines.length === 0;
  }

  /** The next line. Null when there is none now, which is when reading goes on. */
  next(): string | null {
    const line = this.#lines.shift();
    if (line !== undefined) return line;
    if (!this.#ended) this.#watch ??= this.#host.watch(this.#fd.number, () => this.#read());
    return null;
  }

  #read(): void {
    const got = libc.read(this.#fd.number, this.#data, READ_SIZE);
    if (got < 0) {
      const why = errno();
      if (why === EAGAIN || why === EINTR) return;
      this.#host.log.debug("Reading commands ended", { reason: errnoText(why) });
    }
    if (got <= 0) this.#end();
    else
      this.#split(this.#rest + this.#decoder.decode(this.#data.subarray(0, got), { stream: true }));
    if (this.#lines.length === 0 && !this.#ended) return;
    this.#pause();
    this.#wake();
  }

  #split(text: string): void {
    const lines = text.split("\n");
    this.#rest = lines.pop()!;
    this.#lines.push(...lines);
    if (this.#rest.length <= MAX_LINE) return;
    this.#host.log.warn(
      `A line of commands has more than ${MAX_LINE} characters: no more are read`,
    );
    this.#rest = "";
    this.#end();
  }

  #end(): void {
    this.#ended = true;
    if (this.#rest !== "") this.#lines.push(this.#rest);
    this.#rest = "";
  }

  #pause(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = null;
  }

  [Symbol.dispose](): void {
    this.#ended = true;
    this.#lines = [];
    this.#pause();
    this.#fd.close();
  }
}
