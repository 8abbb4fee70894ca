/** Where the parts of a ring lie in the process, whatever kind of address the front-end gave for them. */
import { PAGE_SIZE, type Pages, Patchwork } from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";
import { hex } from "./hex.ts";
import { AccessFailure, TranslationMiss } from "./iotlb.ts";
import type { GuestMemory } from "./memory.ts";
import type { Translation } from "./translation.ts";

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

/** The parts of one ring in the process, until it is disposed. */
export class RingPlaces implements Disposable {
  /** Process addresses of the parts. */
  readonly hosts: readonly number[];
  readonly #where: RingMemory;
  readonly #patches: Patchwork[] = [];

  /**
   * Throws `ProtocolError` when a part is nowhere, and `TranslationMiss` after the front-end was asked
   * for all that is missing. `title` begins the messages.
   */
  constructor(title: string, parts: readonly RingPart[], where: RingMemory) {
    this.#where = where;
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

  [Symbol.dispose](): void {
    for (const patch of this.#patches.splice(0)) patch[Symbol.dispose]();
  }

  #locate(title: string, part: RingPart): number {
    const { length, alignment } = part;
    const { translation, guestAddresses } = this.#where;
    const kind = translation ? "I/O" : guestAddresses ? "guest" : "user";
    const text = `${title} of ${length} bytes at ${kind} address ${hex(part.address)}`;
    const host = translation ? this.#translate(title, text, part, translation) : this.#find(part);
    if (host === null) throw new ProtocolError(`${text} is not in one memory region`);
    // The region's own offset in its file may be odd, and atomic accesses need aligned memory.
    if (host % alignment !== 0) {
      throw new ProtocolError(`${text} is not aligned to ${alignment} bytes in memory`);
    }
    return host;
  }

  #find({ address, length }: RingPart): number | null {
    const { memory, guestAddresses } = this.#where;
    const range = guestAddresses
      ? memory.findGuest(address, length)
      : memory.findUser(address, length);
    return range?.host ?? null;
  }

  #translate(
    title: string,
    text: string,
    { address, length, access }: RingPart,
    translation: Translation,
  ): number {
    try {
      return this.#join(text, translation.iotlb.hosts(title, address, length, access));
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

function wholePages({ address, length }: Pages): Pages {
  const start = address - (address % PAGE_SIZE);
  return { address: start, length: Math.ceil((address + length - start) / PAGE_SIZE) * PAGE_SIZE };
}
