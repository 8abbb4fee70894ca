/** `vhost-user-input` with commands from a socket, and a program that sends them. */
import assert from "node:assert/strict";
import { connectUnix, type Fd, libc } from "../../ffi/mod.ts";
import type { InputEvent } from "../../frontend/mod.ts";
import { Folder } from "./folder.ts";
import { launcher, Program, until } from "./program.ts";

export type Triple = readonly [number, number, number];

export const triples = (events: readonly InputEvent[]): Triple[] =>
  events.map(({ type, code, value }) => [type, code, value]);

/** A program that takes commands from a socket of its own. */
export class InputProgram implements Disposable {
  readonly folder = new Folder();
  readonly listen = this.folder.at("listen");
  readonly program: Program;

  constructor(...args: readonly string[]) {
    const command = [launcher("vhost-user-input"), "--socket-path=SOCKET"];
    this.program = new Program([...command, `--listen=${this.listen}`, ...args], {
      folder: this.folder,
    });
  }

  get socket(): string {
    return this.program.socket;
  }

  [Symbol.dispose](): void {
    this.program[Symbol.dispose]();
    this.folder[Symbol.dispose]();
  }
}

/** A program that sends commands, and what it is answered. */
export class Remote implements Disposable {
  readonly fd: Fd;
  #text = "";

  constructor(path: string) {
    this.fd = connectUnix(path);
    this.fd.setNonBlocking();
  }

  send(...lines: readonly string[]): void {
    const data = new TextEncoder().encode(`${lines.join("\n")}\n`);
    assert.equal(libc.write(this.fd.number, new Uint8Array(data), data.length), data.length);
  }

  /** The next line. */
  line(): string {
    const data = new Uint8Array(new ArrayBuffer(4096));
    return until(() => {
      const got = libc.read(this.fd.number, data, data.length);
      if (got > 0) this.#text += new TextDecoder().decode(data.subarray(0, got));
      const end = this.#text.indexOf("\n");
      if (end < 0) return null;
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      return line;
    }, "an answer");
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}
