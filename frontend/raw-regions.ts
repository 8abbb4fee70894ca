/** Messages about memory with any content, for tables that are wrong on purpose. */
import { MemTableHeader, Region, SingleRegion } from "../core/payloads.ts";

/** A memory region. All in bytes. */
export interface RegionFields {
  readonly guest: number | bigint;
  readonly size: number | bigint;
  readonly user: number | bigint;
  /** In the file; 0 by default. */
  readonly offset?: number | bigint;
}

const wire = ({ guest, size, user, offset = 0 }: RegionFields) => ({
  guestAddress: BigInt(guest),
  size: BigInt(size),
  userAddress: BigInt(user),
  mmapOffset: BigInt(offset),
});

/** A SET_MEM_TABLE payload; `count` may differ from the regions that follow. */
export function memoryTable(regions: readonly RegionFields[], count = regions.length): Uint8Array {
  const payload = new Uint8Array(MemTableHeader.size + regions.length * Region.size);
  MemTableHeader.encode({ count }, payload);
  regions.forEach((region, i) => {
    Region.encode(wire(region), payload, MemTableHeader.size + i * Region.size);
  });
  return payload;
}

/** An ADD_MEM_REG or REM_MEM_REG payload. */
export const singleRegion = (region: RegionFields): Uint8Array => SingleRegion.encode(wire(region));
