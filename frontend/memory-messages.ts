/** Sharing guest memory (vhost-user: SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG). */
import { MAX_TABLE_REGIONS, MemTableHeader, Region, SingleRegion } from "../core/payloads.ts";
import { frontEndMessages } from "../core/protocol.ts";
import type { Connection } from "./connection.ts";
import type { GuestRegion, RegionPlan } from "./guest-memory.ts";

const wire = ({ guestAddress, userAddress, size, offset }: RegionPlan) => ({
  guestAddress: BigInt(guestAddress),
  userAddress: BigInt(userAddress),
  size: BigInt(size),
  mmapOffset: BigInt(offset),
});

/** The payload of SET_MEM_TABLE. Throws RangeError for more than 8 regions. */
export function encodeMemoryTable(regions: readonly GuestRegion[]): Uint8Array<ArrayBuffer> {
  const { length } = regions;
  if (length > MAX_TABLE_REGIONS) {
    throw new RangeError(
      `Cannot send ${length} regions in one table: ${MAX_TABLE_REGIONS} at most`,
    );
  }
  const payload = new Uint8Array(MemTableHeader.size + length * Region.size);
  MemTableHeader.encode({ count: length }, payload);
  regions.forEach(({ plan }, i) => {
    Region.encode(wire(plan), payload, MemTableHeader.size + i * Region.size);
  });
  return payload;
}

/** Replaces the whole memory table. Throws RangeError for more than 8 regions. */
export function sendMemoryTable(connection: Connection, regions: readonly GuestRegion[]): void {
  const fds = regions.map(({ fd }) => fd);
  connection.command(frontEndMessages.SET_MEM_TABLE, encodeMemoryTable(regions), fds);
}

/** Adds one region. */
export function sendAddRegion(connection: Connection, { plan, fd }: GuestRegion): void {
  connection.command(frontEndMessages.ADD_MEM_REG, SingleRegion.encode(wire(plan)), [fd]);
}

/** Removes one region. */
export function sendRemoveRegion(connection: Connection, { plan }: GuestRegion): void {
  connection.command(frontEndMessages.REM_MEM_REG, SingleRegion.encode(wire(plan)));
}
