import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync, statSync, truncateSync } from "node:fs";
import { test } from "node:test";
import { ConfigHeader } from "../../core/payloads.ts";
import {
  BlkConfig,
  BlkFeature,
  ID_SIZE,
  RequestType,
  SECTOR_SIZE,
  Segment,
  Status,
} from "../../devices/blk/wire.ts";
import { allRingFeatures, Guest, MEMORY_SIZE } from "./guest.ts";
import { DISK_SIZE, Program } from "./program.ts";
import { type Descriptor, describe, INDIRECT, NEXT, type Ring, WRITE } from "./ring.ts";
import { serves, suite, TIME_LIMIT } from "./row.ts";

const { row, guest } = suite();
const SECTORS = DISK_SIZE / SECTOR_SIZE;
const { IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES } = RequestType;

/** A chain of `count` buffers of `length` bytes each, in an indirect table in spare memory. */
function offerLarge(g: Guest, ring: Ring, type: number, count: number, length: number): void {
  const at = 0x400000;
  const [header, status] = g.buffers(ring, { type });
  const flags = type === IN ? WRITE : 0;
  const data = Array.from({ length: count }, () => ({ address: 0, length, flags }));
  const table: Descriptor[] = [header!, ...data, status!];
  table.forEach((part, i) => {
    const more = i + 1 < table.length ? NEXT : 0;
    describe(g.view, at + 16 * i, { ...part, flags: (part.flags ?? 0) | more, next: i + 1 });
  });
  ring.descriptor(0, { address: at, length: 16 * table.length, flags: INDIRECT });
  ring.offer(0);
  ring.kick();
}

row(
  "B1 a range that is not on the disk gets IOERR and touches nothing",
  { log: [/Refused a request: it does not cover whole blocks of the disk/] },
  (program) => {
    using g = guest();
    const ring = g.ring(1);
    const sectors = [
      SECTORS,
      SECTORS + 1,
      2 ** 32 - 1,
      2 ** 32,
      2 ** 44,
      2n ** 53n,
      2n ** 55n - 1n,
      2n ** 55n,
      2n ** 63n,
      2n ** 64n - 8n,
      2n ** 64n - 1n,
    ];
    for (const sector of sectors) {
      const data = new Uint8Array(512).fill(0xbb);
      assert.equal(g.io(ring, { type: IN, sector, length: 512 }), Status.IOERR, `read ${sector}`);
      assert.equal(g.io(ring, { type: OUT, sector, data }), Status.IOERR, `write ${sector}`);
    }
    for (const length of [1024, 4096, 32768]) {
      const sector = SECTORS - 1;
      const data = new Uint8Array(length);
      assert.equal(g.io(ring, { type: IN, sector, length }), Status.IOERR, "across the end");
      assert.equal(g.io(ring, { type: OUT, sector, data }), Status.IOERR, "across the end");
    }
    for (const length of [1, 511, 513, 1000]) {
      const data = new Uint8Array(length);
      assert.equal(g.io(ring, { type: IN, length }), Status.IOERR, `${length} bytes`);
      assert.equal(g.io(ring, { type: OUT, data }), Status.IOERR, `${length} bytes`);
    }
    assert.equal(g.io(ring, { type: IN }), Status.IOERR, "nothing to read");
    assert.equal(g.io(ring, { type: OUT }), Status.IOERR, "nothing to write");
    for (const type of [IN, OUT]) {
      offerLarge(g, ring, type, 255, MEMORY_SIZE);
      assert.ok(ring.complete(), "nearly 4 GiB");
      assert.equal(g.memory[ring.data + 16], Status.IOERR);
    }
    assert.equal(statSync(program.image).size, DISK_SIZE, "the file has not grown");
    assert.equal(g.io(ring, { type: IN, sector: SECTORS - 1, length: 512 }), Status.OK);
    g.verify(ring);
  },
);

row("B1 more than 4 GiB break the queue", { log: [/more than 4 GiB of buffers/] }, () => {
  using g = guest();
  const ring = g.ring(1);
  offerLarge(g, ring, IN, 500, MEMORY_SIZE);
  assert.ok(ring.broken());
  g.restart(ring);
  g.verify(ring);
});

row(
  "B2 unknown types are unsupported and a short GET_ID is cut",
  { log: [/Refused a request: the device does not support it \(type=2\)/] },
  () => {
    using g = guest();
    const ring = g.ring(1);
    for (const type of [2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 255, 256, 0x80000000, 0xffffffff]) {
      assert.equal(g.io(ring, { type, length: 512 }), Status.UNSUPP, `type ${type}`);
      assert.equal(g.io(ring, { type, data: new Uint8Array(16) }), Status.UNSUPP, `type ${type}`);
    }
    const serial = new TextEncoder().encode("bad-input");
    for (const length of [1, 5, 19, 20, 21, 512]) {
      g.memory.fill(0xcc, ring.data + 4096, ring.data + 8192);
      assert.equal(g.io(ring, { type: GET_ID, length }), Status.OK, `GET_ID of ${length}`);
      const expected = new Uint8Array(600).fill(0xcc);
      expected.fill(0, 0, Math.min(length, ID_SIZE));
      expected.set(serial.subarray(0, length));
      assert.deepEqual(g.result(ring, 600), expected);
    }
    assert.equal(g.io(ring, { type: GET_ID }), Status.OK, "GET_ID without room");
    assert.equal(g.io(ring, { type: FLUSH, sector: 2n ** 64n - 1n }), Status.OK);
    g.verify(ring);
  },
);

interface SegmentFields {
  readonly sector: number | bigint;
  readonly sectors: number;
  readonly flags?: number;
}

function segments(...list: readonly SegmentFields[]): Uint8Array {
  const data = new Uint8Array(list.length * Segment.size);
  const view = new DataView(data.buffer);
  list.forEach(({ sector, sectors, flags = 0 }, i) => {
    view.setBigUint64(i * Segment.size, BigInt(sector), true);
    view.setUint32(i * Segment.size + Segment.sectors, sectors, true);
    view.setUint32(i * Segment.size + Segment.flags, flags, true);
  });
  return data;
}

/** The limits that the device announces. */
function limits(g: Guest) {
  const payload = new Uint8Array(ConfigHeader.size + BlkConfig.size);
  ConfigHeader.encode({ offset: 0, size: BlkConfig.size }, payload);
  return BlkConfig.decode(g.client.ask("GET_CONFIG", payload), ConfigHeader.size);
}

row(
  "B3 wrong discards and write-zeroes are refused before anything is done",
  { log: [/its segments are malformed, too many or too long/] },
  (program) => {
    using g = guest();
    const ring = g.ring(1);
    const { maxDiscardSeg, maxDiscardSectors, maxWriteZeroesSectors } = limits(g);
    const data = randomBytes(8 * SECTOR_SIZE);
    assert.equal(g.io(ring, { type: OUT, sector: 800, data }), Status.OK);
    const good = { sector: 800, sectors: 8 };
    const wrong: readonly (readonly [what: string, data: Uint8Array, zeroes?: number])[] = [
      ["no segment", new Uint8Array(0)],
      ["15 bytes", segments(good).subarray(0, 15)],
      ["17 bytes", new Uint8Array(17)],
      ["too many", segments(...Array.from({ length: maxDiscardSeg + 1 }, () => good))],
      ["nothing", segments({ ...good, sectors: 0 })],
      ["too long", segments({ sector: 0, sectors: maxDiscardSectors + 1 })],
      ["too long for zeroes", segments({ sector: 0, sectors: maxWriteZeroesSectors + 1 })],
      ["2^32 - 1 sectors", segments({ sector: 0, sectors: 0xffffffff })],
      ["beyond the end", segments({ sector: SECTORS, sectors: 1 })],
      ["across the end", segments({ sector: SECTORS - 1, sectors: 2 })],
      ["wrapping", segments({ sector: 2n ** 64n - 1n, sectors: 2 })],
      ["wrapping in bytes", segments({ sector: 2n ** 55n, sectors: 8 })],
      // The first one is right, and must not be carried out.
      ["a wrong one behind a right one", segments(good, { sector: SECTORS, sectors: 8 })],
      ["unknown flags", segments({ ...good, flags: 2 })],
      ["all flags", segments({ ...good, flags: 0xffffffff })],
    ];
    for (const type of [DISCARD, WRITE_ZEROES]) {
      for (const [what, payload] of wrong) {
        if (type === DISCARD && what === "too long for zeroes") continue;
        const status = g.io(ring, { type, data: payload });
        const flags = what.endsWith("flags");
        assert.equal(status, flags ? Status.UNSUPP : Status.IOERR, `type ${type}: ${what}`);
      }
    }
    const unmap = segments({ ...good, flags: 1 });
    assert.equal(g.io(ring, { type: DISCARD, data: unmap }), Status.UNSUPP);
    assert.equal(g.io(ring, { type: IN, sector: 800, length: data.length }), Status.OK);
    assert.deepEqual(Buffer.from(g.result(ring, data.length)), data, "nothing was done");
    assert.equal(g.io(ring, { type: WRITE_ZEROES, data: unmap }), Status.OK);
    assert.equal(g.io(ring, { type: IN, sector: 800, length: data.length }), Status.OK);
    assert.ok(g.result(ring, data.length).every((byte) => byte === 0));
    assert.equal(statSync(program.image).size, DISK_SIZE);
  },
);

row("B5 the write cache can be switched while data is written", {}, () => {
  using g = guest({ features: allRingFeatures | (1n << BigInt(BlkFeature.FLUSH)) });
  const ring = g.ring(1);
  for (let i = 0; i < 20; i++) {
    const data = randomBytes(4096);
    const sector = 2000 + 8 * i;
    ring.offer(ring.chain(0, g.buffers(ring, { type: OUT, sector, data })));
    ring.kick();
    const payload = new Uint8Array(ConfigHeader.size + 1);
    ConfigHeader.encode({ offset: BlkConfig.offset.wce, size: 1 }, payload);
    payload[ConfigHeader.size] = i % 2;
    g.must("SET_CONFIG", payload);
    assert.ok(ring.complete());
    assert.equal(g.memory[ring.data + 16], Status.OK);
    assert.equal(g.io(ring, { type: IN, sector, length: 4096 }), Status.OK);
    assert.deepEqual(Buffer.from(g.result(ring, 4096)), data);
  }
});

/** Runs `body` against a process of its own. */
function withProgram(
  options: ConstructorParameters<typeof Program>[0],
  body: (p: Program) => void,
) {
  const program = new Program(options);
  try {
    body(program);
    assert.ok(program.alive, "the back-end is alive");
  } finally {
    program.stop();
  }
}

test("B2 a read-only disk refuses every kind of write", { timeout: TIME_LIMIT }, () => {
  withProgram({ device: "read-only" }, (program) => {
    using g = new Guest(program.socket);
    const ring = g.ring(1);
    const image = readFileSync(program.image);
    const offered = g.client.askU64("GET_FEATURES");
    assert.equal((offered >> BigInt(BlkFeature.RO)) & 1n, 1n, "RO is offered");
    const zeroes = segments({ sector: 0, sectors: 8 });
    for (const [type, data] of [
      [OUT, new Uint8Array(512).fill(1)],
      [DISCARD, zeroes],
      [WRITE_ZEROES, zeroes],
    ] as const) {
      assert.equal(g.io(ring, { type, data }), Status.IOERR, `type ${type}`);
    }
    assert.equal(g.io(ring, { type: FLUSH }), Status.OK);
    assert.equal(g.io(ring, { type: IN, length: 512 }), Status.OK);
    assert.match(program.log().join("\n"), /Refused a request: the disk is read-only/);
    assert.ok(image.equals(readFileSync(program.image)), "the image is as it was");
  });
});

test("B4 what the host cannot write or read gets IOERR", { timeout: TIME_LIMIT }, () => {
  const large = 64 * 1024 * 1024;
  // A shell's limit of file sizes is in units of 512 bytes; writing beyond it is EFBIG.
  const prelude = `trap "" XFSZ; ulimit -f ${large / 512}`;
  withProgram({ size: 2 * large, prelude }, (program) => {
    using g = new Guest(program.socket);
    const ring = g.ring(1);
    const sector = large / SECTOR_SIZE;
    const data = new Uint8Array(8192).fill(7);
    assert.equal(g.io(ring, { type: OUT, sector, data }), Status.IOERR, "beyond the limit");
    assert.equal(g.io(ring, { type: IN, sector, length: 8192 }), Status.OK);
    assert.equal(g.io(ring, { type: OUT, sector: sector - 8, data }), Status.IOERR, "in part");
    assert.ok(program.alive);
    g.verifyAll();
    assert.match(program.log().join("\n"), /A request failed \(type=1, errno=27\)/);
    // Somebody shortens the file: reads find its end.
    truncateSync(program.image, large / 2);
    assert.equal(g.io(ring, { type: IN, sector, length: 8192 }), Status.IOERR);
    const end = { type: IN, sector: large / 2 / SECTOR_SIZE - 8, length: 8192 };
    assert.equal(g.io(ring, end), Status.IOERR, "across the file's end");
    g.verifyAll();
    g[Symbol.dispose]();
    serves(program);
  });
});
