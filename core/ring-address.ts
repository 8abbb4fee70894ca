/** Where the parts of a ring lie in the process, whatever kind of address the front-end gave for them. */
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

/**
 * Finds the process addresses of a ring's parts. Throws `ProtocolError` when one is nowhere, and
 * `TranslationMiss` after the front-end was asked for what is missing.
 */
export function locateRing(vring: number, parts: readonly RingPart[], where: RingMemory): number[] {
  const { translation } = where;
  let missed: TranslationMiss | null = null;
  const found = parts.map((part) => {
    try {
      return locatePart(vring, part, where);
    } catch (error) {
      if (!(error instanceof TranslationMiss)) throw error;
      translation!.ask(error);
      missed ??= error;
      return 0;
    }
  });
  if (missed !== null) throw missed;
  return found;
}

function locatePart(vring: number, part: RingPart, where: RingMemory): number {
  const { name, length, alignment } = part;
  const text = `Cannot start vring ${vring}: its ${name}`;
  const { host, at } = where.translation
    ? { host: ioHost(text, part, where.translation), at: `I/O address ${hex(part.address)}` }
    : directHost(part, where);
  if (host < 0)
    throw new ProtocolError(`${text} of ${length} bytes at ${at} is not in one memory region`);
  // The region's own offset in its file may be odd, and atomic accesses need aligned memory.
  if (host % alignment !== 0) {
    throw new ProtocolError(`${text} at ${at} is not aligned to ${alignment} bytes in memory`);
  }
  return host;
}

function directHost({ address, length }: RingPart, { memory, guestAddresses }: RingMemory) {
  const kind = guestAddresses ? "guest" : "user";
  const at = `${kind} address ${hex(address)}`;
  const range = guestAddresses
    ? memory.findGuest(address, length)
    : memory.findUser(address, length);
  return { host: range?.host ?? -1, at };
}

function ioHost(text: string, part: RingPart, translation: Translation): number {
  try {
    return translation.iotlb.host(text, part.address, part.length, part.access);
  } catch (error) {
    if (!(error instanceof AccessFailure)) throw error;
    translation.report(error);
    throw new ProtocolError(error.message);
  }
}
