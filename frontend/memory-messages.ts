/** Sharing guest memory (vhost-user: SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG). */
import { MAX_TABLE_REGIONS } from "../core/payloads.ts";
import { frontEndMessages } from "../core/protocol.ts";
import type { Connection } from "./connection.ts";
import type { GuestRegion } from "./guest-memory.ts";
import { memoryTable, type RegionFields, singleRegion } from "./raw-regions.ts";

/** A region as messages have it. */
export const fieldsOf = ({ plan }: GuestRegion): RegionFields => ({
  guest: plan.guestAddress,
  size: plan.size,
  user: plan.userAddress,
  offset: plan.offset,
});

/** The payload of SET_MEM_TABLE. Throws RangeError for more than 8 regions. */
export function encodeMemoryTable(regions: readonly GuestRegion[]): Uint8Array {
  const { length } = regions;
  if (length > MAX_TABLE_REGIONS) {
    throw new RangeError(
      `Cannot send ${length} regions in one table: ${MAX_TABLE_REGIONS} at most`,
    );
  }
  return memoryTable(regions.map(fieldsOf));
}

/** Replaces the whole memory table. Throws RangeError for more than 8 regions. */
export function sendMemoryTable(connection: Connection, regions: readonly GuestRegion[]): void {
  const fds = regions.map(({ fd }) => fd);
  connection.command(frontEndMessages.SET_MEM_TABLE, encodeMemoryTable(regions), fds);
}

/** Adds one region. */
export function sendAddRegion(connection: Connection, region: GuestRegion): void {
  const payload = singleRegion(fieldsOf(region));
  connection.command(frontEndMessages.ADD_MEM_REG, payload, [region.fd]);
}

/** Removes one region. */
export function sendRemoveRegion(connection: Connection, region: GuestRegion): void {
  connection.command(frontEndMessages.REM_MEM_REG, singleRegion(fieldsOf(region)));
}
