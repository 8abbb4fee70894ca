/** The guest memory that all sessions of a fuzzer share with the back-end, one after another. */
import { createMemfd, type Fd, Mapping } from "../../ffi/mod.ts";
import { MEMORY_SIZE } from "../bad-input/guest.ts";
import { RING_STRIDE } from "../bad-input/ring.ts";

/** Vrings that have a place in the arena. */
export const RINGS = 4;
/** Guest addresses of the rings' indirect tables, and bytes for each ring. */
export const TABLES = 0x200000;
export const TABLE_BYTES = 0x40000;

/** Bytes of the in-flight region, and of the dirty log behind it. */
const RECORD_BYTES = 0x40000;
export const LOG = { offset: RECORD_BYTES, size: 4096 } as const;

export class Arena implements Disposable {
  /** What back-ends may keep records in: an in-flight region and a dirty log. */
  readonly records: Fd = createMemfd("fuzz-records", RECORD_BYTES + LOG.size);
  readonly inflight: Uint8Array<ArrayBuffer>;
  readonly memfd: Fd = createMemfd("fuzz-guest", MEMORY_SIZE);
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly i32: Int32Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly #mapping = new Mapping(this.memfd, MEMORY_SIZE);
  readonly #records = new Mapping(this.records, RECORD_BYTES);

  constructor() {
    const window = this.#mapping.windows[0]!;
    this.u8 = window.u8;
    this.i32 = window.i32;
    this.view = window.data;
    this.inflight = this.#records.windows[0]!.u8;
  }

  /** Makes the rings empty: a burst must not depend on the one before it. */
  clear(): void {
    this.u8.fill(0, 0, RINGS * RING_STRIDE);
    this.u8.fill(0, TABLES, TABLES + RINGS * TABLE_BYTES);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.#records[Symbol.dispose]();
    this.records.close();
    this.memfd.close();
  }
}
