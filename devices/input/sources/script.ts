/** `--script`: commands from a file, a pipe or standard input. */
import { readFileSync } from "node:fs";
import type { Host } from "../../../core/device.ts";
import { Fd, O_RDONLY, openFile, S_IFIFO, S_IFSOCK, SystemError } from "../../../ffi/mod.ts";
import { type Composer, composeLine, composeScript, type Step } from "./composer.ts";
import { LineStream } from "./line-stream.ts";
import type { Script } from "./player.ts";

const STDIN = 0;
const S_IFCHR = 0o020000;

/** Steps that are known from the start. */
class WholeScript implements Script {
  readonly #log: Host["log"];
  #steps: readonly Step[] | null;

  constructor(steps: readonly Step[], log: Host["log"]) {
    this.#steps = steps;
    this.#log = log;
  }

  next(): readonly Step[] | null {
    const steps = this.#steps;
    this.#steps = null;
    if (steps === null) this.#log.debug("The script is at its end");
    return steps;
  }

  echo(text: string): void {
    this.#log.info(text);
  }
}

/** Commands that come line by line. A wrong one is reported, and the others are carried out. */
export class LiveScript implements Script, Disposable {
  readonly #stream: LineStream;
  readonly #composer: Composer;
  readonly #answer: (text: string) => void;
  readonly #ended: () => void;
  #lines = 0;

  /** Takes `fd`. `wake` is called when `next` may have something, `ended` when it never will again. */
  constructor(
    fd: Fd,
    composer: Composer,
    host: Host,
    hooks: { wake: () => void; answer: (text: string) => void; ended: () => void },
  ) {
    this.#stream = new LineStream(fd, host, hooks.wake);
    this.#composer = composer;
    this.#answer = hooks.answer;
    this.#ended = hooks.ended;
  }

  next(): readonly Step[] | null {
    const line = this.#stream.next();
    if (line === null) {
      if (this.#stream.ended) this.#ended();
      return null;
    }
    this.#lines++;
    try {
      return composeLine(this.#composer, line, this.#lines);
    } catch (error) {
      this.#answer(`error: ${(error as Error).message}`);
      return [];
    }
  }

  echo(text: string): void {
    this.#answer(text);
  }

  [Symbol.dispose](): void {
    this.#stream[Symbol.dispose]();
  }
}

/** What has an end of its own is read before anything else, so that mistakes show at once. */
function isStream(fd: Fd): boolean {
  return [S_IFIFO, S_IFSOCK, S_IFCHR].includes(fd.fileType());
}

/** Opens `--script`: a path, or `-`. Throws `Error` that names the line which is wrong. */
export function openScript(
  path: string,
  composer: Composer,
  host: Host,
  wake: () => void,
): Script & Partial<Disposable> {
  const name = path === "-" ? "standard input" : `"${path}"`;
  try {
    const file = path === "-" ? new Fd(STDIN).duplicate() : openFile(path, O_RDONLY);
    if (isStream(file)) {
      const answer = (text: string) =>
        text.startsWith("error: ")
          ? host.log.warn(`Ignored a command of the script, ${text.slice(7)}`)
          : host.log.info(text);
      return new LiveScript(file, composer, host, { wake, answer, ended: () => {} });
    }
    file.close();
    const text = readFileSync(path === "-" ? STDIN : path, "utf8");
    return new WholeScript(composeScript(composer, text), host.log);
  } catch (error) {
    const reason = error instanceof SystemError ? error.message : (error as Error).message;
    throw new Error(`Cannot use the script ${name}: ${reason}`, { cause: error });
  }
}
