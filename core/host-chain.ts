/**
 * Memory of our own as a chain: for what a device has that no driver gave it, and passes on as if
 * one had.
 */
import { createMemfd, Mapping, WINDOW_SIZE } from "../ffi/mod.ts";
import { AddressSpace, MemoryWindow } from "./address-space.ts";
import { Chain, type ChainOwner } from "./chain.ts";

const owner: ChainOwner = {
  hold() {
    throw new Error("Cannot hold memory of our own");
  },
  completeHeld() {},
};

export class HostChain extends Chain implements Disposable {
  /** Where it lies in the process, for system calls. */
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #mapping: Mapping;

  /** Room for `length` bytes, at most 1 GiB. Throws `SystemError` when there is no memory. */
  constructor(length: number) {
    if (!(length <= WINDOW_SIZE)) throw new RangeError(`Cannot make a chain of ${length} bytes`);
    using file = createMemfd("ringside-host", length);
    const mapping = new Mapping(file, length);
    const views = mapping.windows[0]!;
    const window = new MemoryWindow({ base: 0, end: length, origin: 0, physical: 0, views }).open();
    window.slot = 0;
    super(owner, new AddressSpace([window]));
    this.#mapping = mapping;
    this.address = mapping.address;
    this.bytes = window.u8.subarray(0, length);
  }

  /** Makes `length` bytes from `offset` on what the chain has to read. */
  select(offset: number, length: number): void {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.bytes.length)) {
      throw new RangeError(`Cannot select ${length} bytes at ${offset} of ${this.bytes.length}`);
    }
    this.spans[0] = 0;
    this.spans[1] = offset;
    this.spans[2] = length;
    this.setCounts(1, 1, length, 0);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}
