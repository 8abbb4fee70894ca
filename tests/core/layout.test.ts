/** Layouts against sizes and offsets that the C headers were compiled to. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Type } from "typebox";
import { type Layout, layout, le16, le32, le64, le64Array, raw, u8 } from "../../core/layout.ts";
import * as payloads from "../../core/payloads.ts";
import { BlkConfig, RequestHeader, Segment } from "../../devices/blk/wire.ts";

/** Per layout of core/payloads.ts: bytes in all, and where its fields are. */
const wire: Readonly<Record<string, readonly [size: number, offsets: Record<string, number>]>> = {
  Header: [12, { request: 0, flags: 4, size: 8 }],
  U64: [8, { value: 0 }],
  VringState: [8, { index: 0, num: 4 }],
  VringAddr: [40, { index: 0, flags: 4, descriptor: 8, used: 16, available: 24, log: 32 }],
  Region: [32, { guestAddress: 0, size: 8, userAddress: 16, mmapOffset: 24 }],
  XenRegion: [
    40,
    { guestAddress: 0, size: 8, userAddress: 16, mmapOffset: 24, flags: 32, domain: 36 },
  ],
  MemTableHeader: [8, { count: 0, padding: 4 }],
  SingleRegion: [40, { padding: 0, guestAddress: 8, size: 16, userAddress: 24, mmapOffset: 32 }],
  LogArea: [16, { size: 0, offset: 8 }],
  Iotlb: [32, { iova: 0, size: 8, userAddress: 16, permission: 24, type: 25, padding: 26 }],
  ConfigHeader: [12, { offset: 0, size: 4, flags: 8 }],
  VringArea: [24, { index: 0, size: 8, offset: 16 }],
  Inflight: [24, { size: 0, offset: 8, queues: 16, queueSize: 18, padding: 20 }],
  Uuid: [16, { uuid: 0 }],
  DeviceState: [8, { direction: 0, phase: 4 }],
  ShmemMap: [40, { region: 0, padding: 1, fdOffset: 8, regionOffset: 16, length: 24, flags: 32 }],
  ShmemConfig: [2056, { count: 0, padding: 4, sizes: 8 }],
  CryptoSession: [1072, { operation: 0, body: 8, sessionId: 1064 }],
  BackendSpecs: [16, { deviceId: 0, configSize: 4, minQueues: 8, maxQueues: 12 }],
};

/** struct virtio_blk_config. */
const blkConfig = {
  capacity: 0,
  sizeMax: 8,
  segMax: 12,
  cylinders: 16,
  heads: 18,
  sectors: 19,
  blkSize: 20,
  physicalBlockExp: 24,
  alignmentOffset: 25,
  minIoSize: 26,
  optIoSize: 28,
  wce: 32,
  unused0: 33,
  numQueues: 34,
  maxDiscardSectors: 36,
  maxDiscardSeg: 40,
  discardSectorAlignment: 44,
  maxWriteZeroesSectors: 48,
  maxWriteZeroesSeg: 52,
  writeZeroesMayUnmap: 56,
  unused1: 57,
  maxSecureEraseSectors: 60,
  maxSecureEraseSeg: 64,
  secureEraseSectorAlignment: 68,
  zoned: 72,
};

const isLayout = (value: unknown): value is Layout =>
  typeof value === "object" && value !== null && "encode" in value;

describe("The layouts of the protocol", () => {
  const all = Object.entries(payloads).filter(([, value]) => isLayout(value));

  test("are all listed here", () => {
    assert.deepEqual(all.map(([name]) => name).sort(), Object.keys(wire).sort());
  });

  for (const [name, value] of all) {
    test(`${name} lies as in C`, () => {
      const { size, offset } = value as Layout;
      assert.deepEqual([size, { ...offset }], wire[name]);
    });
  }

  test("bound the payloads that messages may have", () => {
    const { payloadSizes } = payloads;
    assert.deepEqual(payloadSizes.memTable, { min: 0, max: 8 + 8 * 40 });
    assert.deepEqual(payloadSizes.memRegion, { min: 32, max: 48 });
    assert.deepEqual(payloadSizes.config, { min: 12, max: 12 + 256 });
    assert.deepEqual(payloadSizes.shmemConfig, { min: 2056, max: 2056 });
  });
});

describe("The layouts of the block device", () => {
  test("have the config space of C", () => {
    assert.equal(BlkConfig.size, 96);
    assert.deepEqual({ ...BlkConfig.offset }, blkConfig);
  });

  test("have requests and segments of C", () => {
    assert.deepEqual(RequestHeader, { size: 16, type: 0, sector: 8 });
    assert.deepEqual(Segment, { size: 16, sector: 0, sectors: 8, flags: 12 });
  });
});

describe("layout()", () => {
  const all = layout(
    Type.Object({ a: u8(), b: le16(), c: le32(), d: le64(), e: raw(3), f: le64Array(2) }),
  );
  const values = {
    a: 0x11,
    b: 0x2233,
    c: 0x44556677,
    d: 0x8899aabbccddeeffn,
    e: Uint8Array.of(1, 2, 3),
    f: [1n, 2n ** 64n - 1n],
  };

  test("packs little-endian fields in order", () => {
    assert.equal(all.size, 34);
    assert.deepEqual({ ...all.offset }, { a: 0, b: 1, c: 3, d: 7, e: 15, f: 18 });
    assert.equal(
      hex(all.encode(values)),
      "11 3322 77665544 ffeeddccbbaa9988 010203 0100000000000000 ffffffffffffffff".replace(
        / /g,
        "",
      ),
    );
  });

  test("decodes what it encodes, at any offset of a larger buffer", () => {
    const large = new Uint8Array(64).fill(0xee);
    const part = large.subarray(3);
    all.encode(values, part, 5);
    assert.deepEqual(all.decode(part, 5), values);
    assert.deepEqual([large[7], large[8 + 34]], [0xee, 0xee], "nothing beside is written");
  });

  test("writes zeros for fields without a value and behind short bytes", () => {
    const into = new Uint8Array(34).fill(0xee);
    all.encode({ a: 1, e: Uint8Array.of(9) }, into);
    assert.equal(hex(into), `01${"00".repeat(14)}090000${"00".repeat(16)}`);
  });

  test("copies bytes when it decodes", () => {
    const bytes = all.encode(values);
    const { e } = all.decode(bytes);
    bytes.fill(0);
    assert.deepEqual(e, values.e);
  });

  test("throws RangeError when the bytes do not fit", () => {
    assert.throws(() => all.decode(new Uint8Array(33)), RangeError);
    assert.throws(() => all.decode(new Uint8Array(40), 7), RangeError);
    assert.throws(() => all.encode(values, new Uint8Array(33)), RangeError);
    assert.throws(() => all.encode({ e: new Uint8Array(4) }), /4 bytes in e of 3/);
  });

  test("refuses schemas that are not binary fields", () => {
    assert.throws(() => layout(Type.Object({ text: Type.String() })), /"text": not a binary field/);
  });
});

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
