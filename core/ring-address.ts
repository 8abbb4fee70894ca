/** Where the parts of a ring lie in the process, whatever kind of address the front-end gave for them. */
import { PAGE_SIZE, type Pages, Patchwork } from "../ffi/mod.ts";
import { Access } from "./address-space.ts";
import type { DirtyLog, RingLog } from "./dirty-log.ts";
import { ProtocolError } from "./errors.ts";
import { hex } from "./hex.ts";
import { AccessFailure, type HostPiece, TranslationMiss } from "./iotlb.ts";
import type { GuestMemory } from "./memory.ts";
import { packedRingBytes } from "./packed-format.ts";
import { splitRingBytes } from "./split-format.ts";
import type { Translation } from "./translation.ts";

const { READ, WRITE } = Access;

/** A part of a ring, by the address of SET_VRING_ADDR. */
export interface RingPart {
  readonly name: string;
  readonly address: number;
  /** In bytes. */
  readonly length: number;
  readonly alignment: number;
  /** What the device does there, as `Access` bits. */
  readonly access: number;
}

export interface RingMemory {
  readonly memory: GuestMemory;
  /** The addresses are guest-physical, and not user addresses (GPA_ADDRESSES). */
  readonly guestAddresses: boolean;
  /** The addresses are I/O addresses (ACCESS_PLATFORM), unless this is null. */
  readonly translation: Translation | null;
}

/** The parts of a ring, in the order of `RingPlaces.hosts`. */
export function ringParts(
  packed: boolean,
  size: number,
  addresses: { readonly descriptor: number; readonly available: number; readonly used: number },
): RingPart[] {
  const bytes = packed ? packedRingBytes(size) : splitRingBytes(size);
  const part = (
    name: string,
    kind: "descriptor" | "available" | "used",
    alignment: number,
    access: number,
  ): RingPart => ({ name, address: addresses[kind], length: bytes[kind], alignment, access });
  if (!packed) {
    return [
      part("descriptor table", "descriptor", 16, READ),
      part("available ring", "available", 2, READ),
      part("used ring", "used", 4, WRITE),
    ];
  }
  return [
    part("descriptor ring", "descriptor", 16, READ | WRITE),
    part("driver event area", "available", 4, READ),
    part("device event area", "used", 4, WRITE),
  ];
}

/** The parts of one ring in the process, until it is disposed. */
export class RingPlaces implements Disposable {
  /** Process addresses of the parts. */
  readonly hosts: readonly number[];
  readonly #where: RingMemory;
  readonly #patches: Patchwork[] = [];
  readonly #parts: readonly RingPart[];
  /** What each part is made of. */
  readonly #pieces: (readonly HostPiece[])[] = [];

  /**
   * Throws `ProtocolError` when a part is nowhere, and `TranslationMiss` after the front-end was asked
   * for all that is missing. `title` begins the messages.
   */
  constructor(title: string, parts: readonly RingPart[], where: RingMemory) {
    this.#where = where;
    this.#parts = parts;
    let missed: TranslationMiss | null = null;
    try {
      this.hosts = parts.map((part) => {
        try {
          return this.#locate(`${title}: its ${part.name}`, part);
        } catch (error) {
          if (!(error instanceof TranslationMiss)) throw error;
          where.translation!.ask(error);
          missed ??= error;
          return 0;
        }
      });
      if (missed !== null) throw missed;
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Where the ring's queue marks its writes. `wanted` is the log address that the front-end gave, or null;
   * it is one of the device's too where there is an IOMMU, so that the ring's own place counts then.
   */
  ringLog(log: DirtyLog, wanted: number | null): RingLog {
    const [table, , device] = this.#pieces;
    const descriptors = table![0]!.physical;
    if (this.#where.translation === null) return { log, ring: wanted, descriptors };
    const ring = wanted === null ? null : device![0]!.physical;
    if (table!.length === 1 && device!.length === 1) return { log, ring, descriptors };
    const written = this.#pieces.filter((_, i) => (this.#parts[i]!.access & WRITE) !== 0).flat();
    return { log, ring, descriptors, pages: written.flatMap(pagesOf) };
  }

  [Symbol.dispose](): void {
    for (const patch of this.#patches.splice(0)) patch[Symbol.dispose]();
  }

  #locate(title: string, part: RingPart): number {
    const { length, alignment } = part;
    const { translation, guestAddresses } = this.#where;
    const kind = translation ? "I/O" : guestAddresses ? "guest" : "user";
    const text = `${title} of ${length} bytes at ${kind} address ${hex(part.address)}`;
    const pieces = translation ? this.#translate(title, part, translation) : this.#find(part);
    if (pieces === null) throw new ProtocolError(`${text} is not in one memory region`);
    this.#pieces.push(pieces);
    const host = this.#join(text, pieces);
    // The region's own offset in its file may be odd, and atomic accesses need aligned memory.
    if (host % alignment !== 0) {
      throw new ProtocolError(`${text} is not aligned to ${alignment} bytes in memory`);
    }
    return host;
  }

  #find({ address, length }: RingPart): HostPiece[] | null {
    const { memory, guestAddresses } = this.#where;
    const range = guestAddresses
      ? memory.findGuest(address, length)
      : memory.findUser(address, length);
    return range && [{ address: range.host, length, physical: range.guestAddress }];
  }

  #translate(
    title: string,
    { address, length, access }: RingPart,
    translation: Translation,
  ): HostPiece[] {
    try {
      return translation.iotlb.hosts(title, address, length, access);
    } catch (error) {
      if (!(error instanceof AccessFailure)) throw error;
      translation.report(error);
      throw new ProtocolError(error.message);
    }
  }

  /** Makes one piece of the pages that an IOMMU makes one of for the device. */
  #join(text: string, pieces: readonly Pages[]): number {
    const { address } = pieces[0]!;
    if (pieces.length === 1) return address;
    const lastEnd = pieces.length - 1;
    const whole = pieces.every(
      ({ address, length }, i) =>
        (i === 0 || address % PAGE_SIZE === 0) &&
        (i === lastEnd || (address + length) % PAGE_SIZE === 0),
    );
    if (!whole) throw new ProtocolError(`${text} is in ${pieces.length} pieces that are no pages`);
    try {
      const patch = new Patchwork(pieces.map(wholePages));
      this.#patches.push(patch);
      return patch.address + (address % PAGE_SIZE);
    } catch (error) {
      const reason = (error as Error).message;
      throw new ProtocolError(`${text} cannot be mapped in one piece: ${reason}`);
    }
  }
}

/** An address in each page of a piece. */
function pagesOf({ physical, length }: HostPiece): number[] {
  const first = physical - (physical % PAGE_SIZE);
  const count = Math.ceil((physical + length - first) / PAGE_SIZE);
  return Array.from({ length: count }, (_, i) => first + i * PAGE_SIZE);
}

function wholePages({ address, length }: Pages): Pages {
  const start = address - (address % PAGE_SIZE);
  return { address: start, length: Math.ceil((address + length - start) / PAGE_SIZE) * PAGE_SIZE };
}
