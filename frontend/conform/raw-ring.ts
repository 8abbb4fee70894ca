/** Chains with any content, on both kinds of rings. */
import { Position } from "../packed-position.ts";
import type { PackedRing } from "../packed-ring.ts";
import { NEXT, type RawDescriptor } from "../ring-options.ts";
import type { Vring } from "../vring.ts";
import type { Lane } from "./lane.ts";

const DESCRIPTOR_BYTES = 16;

/** A guest and the vring that is filled by hand. */
export type Driver = Pick<Lane, "frontend" | "vring">;

/**
 * Offers one chain made of these descriptors. On a split ring they are those from `id` on, which is its
 * head; on a packed one they are a list in the next slots, with the buffer id `id`.
 */
export function offerChain(driver: Driver, descriptors: readonly RawDescriptor[], id = 0): void {
  const { ring } = driver.vring;
  if (!ring.packed) {
    for (const [i, descriptor] of descriptors.entries()) ring.describe(id + i, descriptor);
    ring.offer(id);
    return;
  }
  const first = nextSlot(driver);
  // The first one is shown last: no later one is looked at before it.
  for (let i = descriptors.length - 1; i >= 0; i--) {
    const descriptor = descriptors[i]!;
    const flags = (descriptor.flags ?? 0) | ring.ownerFlags(i);
    ring.describe((first + i) % ring.size, { ...descriptor, flags, next: id });
  }
  ring.offer(id, -1, -1, descriptors.length);
}

/** The ring of a guest that `startKind` started with packed ones. */
export function packedRing({ vring }: Driver): PackedRing {
  const { ring } = vring;
  if (!ring.packed) throw new TypeError("The ring is not packed");
  return ring;
}

/** The slot of a packed ring that the driver fills next. */
export const nextSlot = ({ vring }: Driver): number => vring.ring.availableIndex & Position.SLOT;

/** The descriptor in a slot of a packed ring, its flags included. */
export function slotBytes({ frontend, vring }: Lane, slot: number): string {
  const at = vring.ring.place.descriptor + DESCRIPTOR_BYTES * slot;
  return frontend.memory.read(at, DESCRIPTOR_BYTES).join();
}

/** Descriptors as a table in memory has them: of a packed ring, their flags come last. */
export function encodeTable(
  ring: Vring["ring"],
  descriptors: readonly RawDescriptor[],
): Uint8Array {
  const bytes = new Uint8Array(DESCRIPTOR_BYTES * descriptors.length);
  const view = new DataView(bytes.buffer);
  const [flagsAt, nextAt] = ring.packed ? [14, 12] : [12, 14];
  descriptors.forEach(({ address, length, flags = 0, next = 0 }, i) => {
    const at = DESCRIPTOR_BYTES * i;
    view.setBigUint64(at, BigInt.asUintN(64, BigInt(address)), true);
    view.setUint32(at + 8, length, true);
    view.setUint16(at + flagsAt, flags, true);
    view.setUint16(at + nextAt, next, true);
  });
  return bytes;
}

/** Writes a table of descriptors into guest memory. */
export function writeTable(
  driver: Driver,
  at: number,
  descriptors: readonly RawDescriptor[],
): void {
  driver.frontend.memory.write(at, encodeTable(driver.vring.ring, descriptors));
}

/** An address that no region has. */
export function beyondMemory(driver: Driver): number {
  return driver.frontend.memory.regions.at(-1)!.end + 2 ** 30;
}

/** The descriptors with NEXT in all but the last one, each pointing at the one behind it. */
export function linked(descriptors: readonly RawDescriptor[]): RawDescriptor[] {
  return descriptors.map((descriptor, i) =>
    i + 1 === descriptors.length
      ? descriptor
      : { ...descriptor, flags: (descriptor.flags ?? 0) | NEXT, next: i + 1 },
  );
}
