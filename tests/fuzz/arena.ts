/** The guest memory that all sessions of a fuzzer share with the back-end, one after another. */
import { createMemfd, type Fd, Mapping } from "../../ffi/mod.ts";
import { MEMORY_SIZE } from "../bad-input/guest.ts";
import { RING_STRIDE } from "../bad-input/ring.ts";

/** Vrings that have a place in the arena. */
export const RINGS = 4;
/** Guest addresses of the rings' indirect tables, and bytes for each ring. */
export const TABLES = 0x200000;
export const TABLE_BYTES = 0x40000;

export class Arena implements Disposable {
  readonly memfd: Fd = createMemfd("fuzz-guest", MEMORY_SIZE);
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly i32: Int32Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly #mapping = new Mapping(this.memfd, MEMORY_SIZE);

  constructor() {
    const window = this.#mapping.windows[0]!;
    this.u8 = window.u8;
    this.i32 = window.i32;
    this.view = window.data;
  }

  /** Makes the rings empty: a burst must not depend on the one before it. */
  clear(): void {
    this.u8.fill(0, 0, RINGS * RING_STRIDE);
    this.u8.fill(0, TABLES, TABLES + RINGS * TABLE_BYTES);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.memfd.close();
  }
}
