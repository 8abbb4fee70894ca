/** The block device's numbers and layouts (virtio 1.3, 5.2). */
import { Type } from "typebox";
import { layout, le16, le32, le64, raw, u8 } from "../../core/layout.ts";

/** Bytes per sector: the unit of every sector number, whatever the block size is. */
export const SECTOR_SIZE = 512;

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

/** Config space (virtio 1.3, 5.2.4). Sectors are units of 512 bytes. */
export const BlkConfig = layout(
  Type.Object({
    capacity: le64(),
    sizeMax: le32(),
    segMax: le32(),
    cylinders: le16(),
    heads: u8(),
    sectors: u8(),
    blkSize: le32(),
    physicalBlockExp: u8(),
    alignmentOffset: u8(),
    minIoSize: le16(),
    optIoSize: le32(),
    wce: u8(),
    unused0: u8(),
    numQueues: le16(),
    maxDiscardSectors: le32(),
    maxDiscardSeg: le32(),
    discardSectorAlignment: le32(),
    maxWriteZeroesSectors: le32(),
    maxWriteZeroesSeg: le32(),
    writeZeroesMayUnmap: u8(),
    unused1: raw(3),
    maxSecureEraseSectors: le32(),
    maxSecureEraseSeg: le32(),
    secureEraseSectorAlignment: le32(),
    zoned: raw(24),
  }),
);

/** The device-readable start of a request (virtio 1.3, 5.2.6); bytes 4 to 7 are reserved. */
export const RequestHeader = { size: 16, type: 0, sector: 8 } as const;

/** A segment of DISCARD and WRITE_ZEROES. */
export const Segment = { size: 16, sector: 0, sectors: 8, flags: 12 } as const;

/** `Segment.flags`: the device may deallocate what it zeroes. */
export const SEGMENT_UNMAP = 1;

export const RequestType = {
  IN: 0,
  OUT: 1,
  FLUSH: 4,
  GET_ID: 8,
  DISCARD: 11,
  WRITE_ZEROES: 13,
} as const;

export const Status = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

/** Bytes of the identifier that GET_ID returns, padded with zeros. */
export const ID_SIZE = 20;
