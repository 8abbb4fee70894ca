/**
 * A transfer of device state through a descriptor of the front-end's: a pipe, a socket or a file
 * (vhost-user: Migrating back-end state). Nothing here blocks, except on files of a disk.
 */
import {
  bytes,
  EAGAIN,
  EINTR,
  EPOLLIN,
  EPOLLOUT,
  errno,
  type Fd,
  libc,
  O_ACCMODE,
  O_RDONLY,
  O_WRONLY,
  S_IFIFO,
  S_IFREG,
  S_IFSOCK,
  SystemError,
} from "../ffi/mod.ts";
import type { Device } from "./device.ts";
import { ProtocolError } from "./errors.ts";
import type { Loop, Watch } from "./loop.ts";

/** Largest state that is taken from a front-end, in bytes: it is held in memory as a whole. */
export const MAX_STATE_SIZE = 64 * 1024 * 1024;
/** How long the other side may do nothing, in milliseconds. */
const STALL_LIMIT = 10_000;
/** Bytes that move at a time; other events get their turn in between. */
const CHUNK = 64 * 1024;

export interface StateContext {
  readonly loop: Loop;
  readonly device: Device;
  /** Tells whether all vrings are stopped; state must not change hands otherwise. */
  stopped(): boolean;
}

export type Direction = "save" | "load";

export class StateTransfer implements Disposable {
  readonly #fd: Fd;
  readonly #context: StateContext;
  readonly #chunk = bytes(CHUNK);
  #watch: Watch | null = null;
  #stall: Disposable | null = null;
  #moved = 0;
  #pieces: Uint8Array[] = [];
  #step: () => void = () => {};
  /** A file of a disk is always ready: steps follow one another. */
  #onDisk = false;
  /** Undefined while under way. */
  #outcome: Error | null | undefined = undefined;
  #whenDone: ((error: Error | null) => void) | null = null;

  /** Takes `fd`, and begins. What goes wrong later is told by `whenDone`. */
  constructor(fd: Fd, direction: Direction, context: StateContext) {
    const type = fd.fileType();
    if (type !== S_IFIFO && type !== S_IFSOCK && type !== S_IFREG) {
      throw new ProtocolError("Cannot transfer state: the descriptor is no pipe, socket or file");
    }
    const wrongEnd = direction === "save" ? O_RDONLY : O_WRONLY;
    if ((fd.statusFlags() & O_ACCMODE) === wrongEnd) {
      throw new ProtocolError(`Cannot ${direction} state: the descriptor is open the other way`);
    }
    this.#fd = fd;
    this.#context = context;
    if (direction === "save") this.#guard(() => this.#save(type));
    else {
      this.#step = () => this.#read();
      this.#guard(() => this.#begin(type, EPOLLIN));
    }
  }

  get done(): boolean {
    return this.#outcome !== undefined;
  }

  /** Calls back once the transfer is over, with what went wrong or null. */
  whenDone(callback: (error: Error | null) => void): void {
    if (this.#outcome !== undefined) callback(this.#outcome);
    else this.#whenDone = callback;
  }

  /** Gives up what is under way, silently. */
  [Symbol.dispose](): void {
    this.#whenDone = null;
    this.#finish(new Error("The session is over"));
  }

  #save(type: number): void {
    const state = this.#context.device.save!();
    if (state instanceof Uint8Array) return this.#saved(type, state);
    state.then(
      (data) => this.#guard(() => this.#saved(type, data)),
      (error) => this.#finish(error),
    );
  }

  #saved(type: number, state: Uint8Array): void {
    if (this.done) return;
    if (state.length > MAX_STATE_SIZE) throw tooLarge();
    this.#step = () => this.#write(state);
    this.#begin(type, EPOLLOUT);
  }

  /** Runs steps until the transfer is over: whenever the descriptor is ready, or in each round. */
  #begin(type: number, events: number): void {
    const { loop } = this.#context;
    this.#onDisk = type === S_IFREG;
    if (this.#onDisk) return loop.defer(this.#again);
    this.#fd.setNonBlocking();
    this.#watch = loop.watch(this.#fd.number, events, () => this.#guard(this.#step));
    this.#watchProgress(-1);
  }

  readonly #again = (): void => {
    if (this.#onDisk && !this.done) this.#guard(this.#step);
    if (this.#onDisk && !this.done) this.#context.loop.defer(this.#again);
  };

  #watchProgress(before: number): void {
    if (this.#moved === before) return this.#finish(new Error("The front-end's end is stalled"));
    const now = this.#moved;
    this.#stall = this.#context.loop.after(STALL_LIMIT, () => this.#watchProgress(now));
  }

  #write(state: Uint8Array): void {
    const piece = state.subarray(this.#moved, this.#moved + CHUNK);
    if (piece.length > 0) {
      this.#chunk.set(piece);
      const count = this.#transfer("write", piece.length);
      if (count < 0) return;
      this.#moved += count;
    }
    if (this.#moved === state.length) this.#finish(null);
  }

  #read(): void {
    const count = this.#transfer("read", CHUNK);
    if (count < 0) return;
    if (count === 0) return this.#load();
    this.#moved += count;
    if (this.#moved > MAX_STATE_SIZE) throw tooLarge();
    this.#pieces.push(this.#chunk.slice(0, count));
  }

  /** Returns the bytes moved, -1 when it has to be tried again. */
  #transfer(syscall: "read" | "write", length: number): number {
    const count = libc[syscall](this.#fd.number, this.#chunk, length);
    if (count >= 0) return count;
    const why = errno();
    if (why === EAGAIN || why === EINTR) return -1;
    throw new SystemError(syscall, why);
  }

  /** All of the state is there. */
  #load(): void {
    this.#release();
    if (!this.#context.stopped()) throw new ProtocolError("a vring was started meanwhile");
    const state = new Uint8Array(this.#moved);
    let at = 0;
    for (const piece of this.#pieces.splice(0)) {
      state.set(piece, at);
      at += piece.length;
    }
    this.#onDisk = false;
    const loaded = this.#context.device.load!(state);
    if (loaded === undefined) return this.#finish(null);
    loaded.then(
      () => this.#finish(null),
      (error) => this.#finish(error),
    );
  }

  #guard(task: () => void): void {
    try {
      task();
    } catch (error) {
      this.#finish(error);
    }
  }

  #release(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = null;
    this.#stall?.[Symbol.dispose]();
    this.#stall = null;
    this.#fd.close();
  }

  #finish(error: unknown): void {
    if (this.done) return;
    this.#release();
    this.#pieces = [];
    this.#outcome = error === null || error instanceof Error ? error : new Error(String(error));
    this.#whenDone?.(this.#outcome);
    this.#whenDone = null;
  }
}

function tooLarge(): Error {
  return new RangeError(`Cannot transfer more than ${MAX_STATE_SIZE} bytes of device state`);
}
