/** The block device's numbers and layouts as its driver knows them (virtio 1.3, 5.2). */
import { Type } from "typebox";
import { layout, le16, le32, le64, raw, u8 } from "../../core/layout.ts";

/** Bytes per sector, whatever the block size is. */
export const SECTOR = 512;

/** Feature bits (virtio 1.3, 5.2.3). */
export const BlkFeature = {
  SIZE_MAX: 1,
  SEG_MAX: 2,
  GEOMETRY: 4,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
} as const;

/** Request types (virtio 1.3, 5.2.6). */
export const BlkRequest = {
  IN: 0,
  OUT: 1,
  FLUSH: 4,
  GET_ID: 8,
  DISCARD: 11,
  WRITE_ZEROES: 13,
} as const;

export const BlkStatus = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

/** The request header: type u32, reserved u32, sector u64. */
export const HEADER_SIZE = 16;

/** A range of DISCARD and WRITE_ZEROES: sector u64, sectors u32, flags u32. */
export const RANGE_SIZE = 16;

/** Flag of a range: its storage may be freed. */
export const RANGE_UNMAP = 1;

/** Bytes that GET_ID returns. */
export const ID_SIZE = 20;

/** What QEMU and Firecracker ask for with GET_CONFIG: the config space up to write zeroes. */
export const CONFIG_SIZE = 60;

/** Config space up to write zeroes (virtio 1.3, 5.2.4). Sectors have 512 bytes. */
export const BlkConfigSpace = layout(
  Type.Object({
    capacity: le64(),
    sizeMax: le32(),
    segMax: le32(),
    cylinders: le16(),
    heads: u8(),
    sectors: u8(),
    blockSize: le32(),
    physicalBlockExponent: u8(),
    alignmentOffset: u8(),
    minIoSize: le16(),
    optIoSize: le32(),
    writeback: u8(),
    reserved: u8(),
    queues: le16(),
    maxDiscardSectors: le32(),
    maxDiscardRanges: le32(),
    discardAlignment: le32(),
    maxWriteZeroesSectors: le32(),
    maxWriteZeroesRanges: le32(),
    writeZeroesMayUnmap: u8(),
    padding: raw(3),
  }),
);

/** Where the write cache's byte lies. */
export const WRITEBACK_OFFSET: number = BlkConfigSpace.offset.writeback;
