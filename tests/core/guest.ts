/** Guest memory for tests, with the guest's own view of it beside the device's. */
import { GuestMemory, type RegionSpec } from "../../core/memory.ts";
import { createMemfd, type Fd, Mapping, WINDOW_SIZE } from "../../ffi/mod.ts";

/** Where a region of the guest lies, and where in which file. All in bytes. */
export interface RegionPlan {
  readonly guestAddress: number;
  readonly size: number;
  /** Offset in the file. */
  readonly at: number;
  /** Which file, by number; 0 when absent. */
  readonly file?: number;
}

/** User addresses of the front-end: far from the guest addresses, so that no mix-up goes unseen. */
export const userAddress = (guestAddress: number): number => guestAddress + 0x7000_0000_0000;

export const regionSpec = ({ guestAddress, size, at }: RegionPlan): RegionSpec => ({
  guestAddress,
  size,
  userAddress: userAddress(guestAddress),
  mmapOffset: at,
});

export class TestGuest implements Disposable {
  /** What the device has. */
  readonly memory = new GuestMemory();
  readonly regions: readonly RegionPlan[];
  readonly files: readonly Fd[];
  readonly #mappings: readonly Mapping[];

  constructor(regions: readonly RegionPlan[]) {
    this.regions = regions;
    const count = 1 + Math.max(...regions.map(({ file = 0 }) => file));
    const sizes = Array.from({ length: count }, (_, file) =>
      Math.max(...regions.filter((r) => (r.file ?? 0) === file).map((r) => r.at + r.size)),
    );
    this.files = sizes.map((size, i) => createMemfd(`ringside-test-${i}`, size));
    this.#mappings = this.files.map((fd, i) => new Mapping(fd, sizes[i]!));
    const fds = regions.map(({ file = 0 }) => this.files[file]!);
    this.memory.replace(regions.map(regionSpec), fds);
  }

  read(guestAddress: number, length: number): Uint8Array {
    const result = new Uint8Array(length);
    let done = 0;
    for (const piece of this.#pieces(guestAddress, length)) {
      result.set(piece, done);
      done += piece.length;
    }
    return result;
  }

  write(guestAddress: number, data: Uint8Array): void {
    let done = 0;
    for (const piece of this.#pieces(guestAddress, data.length)) {
      piece.set(data.subarray(done, done + piece.length));
      done += piece.length;
    }
  }

  fill(guestAddress: number, length: number, value = 0): void {
    for (const piece of this.#pieces(guestAddress, length)) piece.fill(value);
  }

  /** The guest's view of memory that lies in one region. */
  view(guestAddress: number, length: number): DataView<ArrayBuffer> {
    const [piece] = this.#pieces(guestAddress, length);
    if (piece!.length < length) throw new RangeError("the test's view crosses a region");
    return new DataView(piece!.buffer, piece!.byteOffset, length);
  }

  /** The device's process address of memory that lies in one region. */
  host(guestAddress: number, length: number): number {
    return this.memory.findUser(userAddress(guestAddress), length)!.host;
  }

  /** Tells whether all of a range is guest memory. */
  maps(guestAddress: number, length: number): boolean {
    for (let at = guestAddress; at < guestAddress + length; ) {
      const region = this.#regionAt(at);
      if (region === undefined) return false;
      at = region.guestAddress + region.size;
    }
    return true;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
    for (const mapping of this.#mappings) mapping[Symbol.dispose]();
    for (const fd of this.files) fd.close();
  }

  #regionAt(address: number): RegionPlan | undefined {
    return this.regions.find((r) => address >= r.guestAddress && address < r.guestAddress + r.size);
  }

  *#pieces(guestAddress: number, length: number): Generator<Uint8Array<ArrayBuffer>> {
    for (let at = guestAddress, left = length; left > 0; ) {
      const region = this.#regionAt(at);
      if (region === undefined) throw new RangeError(`the guest has no memory at ${at}`);
      const offset = region.at + (at - region.guestAddress);
      const window = this.#mappings[region.file ?? 0]!.windows[Math.floor(offset / WINDOW_SIZE)]!;
      const start = offset % WINDOW_SIZE;
      const rest = Math.min(region.guestAddress + region.size - at, window.length - start);
      const size = Math.min(left, rest);
      yield window.u8.subarray(start, start + size);
      at += size;
      left -= size;
    }
  }
}
