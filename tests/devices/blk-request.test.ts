/** Block requests: what reaches the store, and what the driver is told (virtio 1.3, 5.2.6). */
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { EIO, ENOSPC, EOPNOTSUPP } from "../../ffi/mod.ts";
import { BlkRequests, pattern, type Request, segments } from "./blk-requests.ts";
import { MemoryStore } from "./memory-store.ts";

const { IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES } = RequestType;
const { OK, IOERR, UNSUPP } = Status;
const DISK = 16 * 512;

describe("A block request", () => {
  const opened: BlkRequests[] = [];
  afterEach(() => {
    for (const requests of opened.splice(0)) requests[Symbol.dispose]();
  });

  function disk(over = {}, size = DISK) {
    const store = new MemoryStore(size);
    const requests = new BlkRequests(store, over);
    opened.push(requests);
    return { store, requests, send: (request: Request) => requests.send(request) };
  }

  const only = (status: number) => ({ written: 1, status, data: new Uint8Array(0) });

  describe("that is right", () => {
    test("reads, and counts the data and the status", () => {
      const { store, send } = disk();
      for (const [sector, length] of [
        [0, 512],
        [3, 1024],
        [0, DISK],
        [15, 512],
      ] as const) {
        const { written, status, data } = send({ type: IN, sector, room: length });
        assert.deepEqual([written, status], [length + 1, OK]);
        assert.deepEqual(data, store.data.slice(sector * 512, sector * 512 + length));
      }
    });

    test("writes, and counts the status alone", () => {
      const { store, send } = disk();
      const data = pattern(1024);
      assert.deepEqual(send({ type: OUT, sector: 5, data }), only(OK));
      assert.deepEqual(store.data.slice(5 * 512, 7 * 512), data);
      assert.deepEqual(store.log, ["write 2560+1024"]);
    });

    test("may be cut into buffers at will", () => {
      const { store, send } = disk();
      const expected = store.data.slice(512, 1024);
      for (const writable of [[512, 1], [513], [100, 412, 1], [0, 512, 0, 1], Array(57).fill(9)]) {
        const answer = send({ type: IN, sector: 1, room: 512, writable });
        assert.deepEqual([answer.written, answer.status], [513, OK]);
        assert.deepEqual(answer.data, expected);
      }
      const data = pattern(512, 7);
      for (const readable of [[528], [16, 512], [1, 15, 512], [4, 4, 8, 100, 412], [20, 508]]) {
        store.data.fill(0);
        assert.deepEqual(send({ type: OUT, sector: 1, data, readable }), only(OK));
        assert.deepEqual(store.data.slice(512, 1024), data);
      }
    });

    test("flushes", () => {
      const { store, send } = disk();
      assert.deepEqual(send({ type: FLUSH }), only(OK));
      assert.deepEqual(store.log, ["flush"]);
    });

    test("gets the identifier, as much as there is room for", () => {
      const { send } = disk();
      const id = Uint8Array.from({ length: 20 }, (_, i) => 65 + i);
      const whole = send({ type: GET_ID, room: 20 });
      assert.deepEqual([whole.written, whole.status], [21, OK]);
      assert.deepEqual(whole.data, id);
      const part = send({ type: GET_ID, room: 7 });
      assert.deepEqual([part.written, part.status], [8, OK]);
      assert.deepEqual(part.data, id.slice(0, 7));
      const none = send({ type: GET_ID, room: 0 });
      assert.deepEqual([none.written, none.status], [1, OK]);
      const large = send({ type: GET_ID, room: 30 });
      // Bytes 20 to 29 were not written: the count must stop before them.
      assert.deepEqual([large.written, large.status], [20, OK]);
      assert.deepEqual(large.data.slice(0, 20), id);
    });

    test("discards and writes zeros, segment by segment", () => {
      const { store, send } = disk();
      const data = segments({ sector: 1, sectors: 2 }, { sector: 8, sectors: 8 });
      assert.deepEqual(send({ type: DISCARD, data }), only(OK));
      const zeroes = segments(
        { sector: 0, sectors: 4, flags: 1 },
        { sector: 15, sectors: 1, flags: 0 },
      );
      assert.deepEqual(send({ type: WRITE_ZEROES, data: zeroes }), only(OK));
      assert.deepEqual(store.log, [
        "discard 512+1024",
        "discard 4096+4096",
        "unmap 0+2048",
        "zero 7680+512",
      ]);
      const cut = [16, 10, 6];
      const one = segments({ sector: 2, sectors: 1 });
      assert.deepEqual(send({ type: DISCARD, data: one, readable: cut }), only(OK));
    });
  });

  describe("that is wrong", () => {
    /** Refused with a status, without the store and without data. */
    function refused(status: number, request: Request, over = {}): void {
      const { store, requests, send } = disk(over);
      const { data, ...answer } = send(request);
      const room = request.room ?? 0;
      assert.deepEqual(answer, { written: room === 0 ? 1 : 0, status });
      assert.ok(
        data.every((byte) => byte === 0xee),
        "no data was written",
      );
      assert.deepEqual(store.log, []);
      assert.equal(requests.records.length, 1, "the log has one line");
      assert.match(requests.records[0]!.message, /^Refused a request: [^\n]+$/);
    }

    test("gets IOERR for a range outside the disk (B1)", () => {
      const starts = [16, 17, 2 ** 23, 2 ** 32, 2n ** 44n, 2n ** 53n, 2n ** 55n - 1n, 2n ** 55n];
      for (const sector of [...starts, 2n ** 63n, 2n ** 64n - 1n]) {
        refused(IOERR, { type: IN, sector, room: 512 });
        refused(IOERR, { type: OUT, sector, data: pattern(512) });
      }
      refused(IOERR, { type: IN, sector: 15, room: 1024 });
      refused(IOERR, { type: OUT, sector: 15, data: pattern(1024) });
      refused(IOERR, { type: IN, sector: 0, room: DISK + 512 });
    });

    test("gets IOERR for anything but whole blocks (B1)", () => {
      for (const length of [0, 1, 511, 513, 1000]) {
        refused(IOERR, { type: IN, room: length });
        refused(IOERR, { type: OUT, data: pattern(length) });
      }
      const large = { logicalBlockSize: 4096 };
      refused(IOERR, { type: IN, room: 512 }, large);
      refused(IOERR, { type: IN, sector: 1, room: 4096 }, large);
      refused(IOERR, { type: OUT, sector: 1, data: pattern(4096) }, large);
      const { send } = disk(large);
      assert.equal(send({ type: IN, sector: 8, room: 4096 }).status, OK);
    });

    test("gets IOERR when it would change a disk that is read-only (B2)", () => {
      const { store, send } = disk();
      store.readOnly = true;
      const data = segments({ sector: 0, sectors: 1 });
      assert.deepEqual(send({ type: OUT, data: pattern(512) }), only(IOERR));
      assert.deepEqual(send({ type: DISCARD, data }), only(IOERR));
      assert.deepEqual(send({ type: WRITE_ZEROES, data }), only(IOERR));
      assert.deepEqual(store.log, []);
      assert.equal(send({ type: IN, room: 512 }).status, OK);
      assert.equal(send({ type: FLUSH }).status, OK);
      assert.equal(send({ type: GET_ID, room: 20 }).status, OK);
    });

    test("gets UNSUPP for types that nobody knows (B2)", () => {
      for (const type of [2, 3, 5, 7, 9, 10, 12, 14, 15, 16, 18, 26, 27, 0x80000000, 0xffffffff]) {
        refused(UNSUPP, { type, room: 64 });
      }
    });

    test("gets UNSUPP for what its store does not do", () => {
      const { store, send } = disk();
      Object.assign(store, { discard: undefined, writeZeroes: undefined });
      const data = segments({ sector: 0, sectors: 1 });
      assert.deepEqual(send({ type: DISCARD, data }), only(UNSUPP));
      assert.deepEqual(send({ type: WRITE_ZEROES, data }), only(UNSUPP));
    });

    test("gets IOERR for segments that are not whole, none, or too many (B3)", () => {
      const one = segments({ sector: 0, sectors: 1 });
      for (const type of [DISCARD, WRITE_ZEROES]) {
        for (const length of [0, 1, 15]) refused(IOERR, { type, data: one.slice(0, length) });
        refused(IOERR, { type, data: Uint8Array.of(...one, 0) });
      }
      const many = (count: number) => segments(...Array(count).fill({ sector: 0, sectors: 1 }));
      refused(IOERR, { type: DISCARD, data: many(5) });
      refused(IOERR, { type: WRITE_ZEROES, data: many(3) });
    });

    test("gets IOERR for segments outside the disk, empty, or too long (B3)", () => {
      for (const type of [DISCARD, WRITE_ZEROES]) {
        for (const [sector, sectors] of [
          [16, 1],
          [15, 2],
          [0, 0],
          [2n ** 32n, 1],
          [2n ** 55n, 1],
          [2n ** 64n - 1n, 1],
          [0, 0xffffffff],
          [2n ** 64n - 1n, 2],
        ] as const) {
          refused(IOERR, { type, data: segments({ sector, sectors }) });
        }
      }
      refused(IOERR, { type: DISCARD, data: segments({ sector: 0, sectors: 9 }) });
      refused(IOERR, { type: WRITE_ZEROES, data: segments({ sector: 0, sectors: 5 }) });
    });

    test("gets UNSUPP for flags that a segment must not have (B3)", () => {
      for (const flags of [2, 3, 0x80000000, 0xffffffff]) {
        for (const type of [DISCARD, WRITE_ZEROES]) {
          refused(UNSUPP, { type, data: segments({ sector: 0, sectors: 1, flags }) });
        }
      }
      refused(UNSUPP, { type: DISCARD, data: segments({ sector: 0, sectors: 1, flags: 1 }) });
    });

    test("has none of its segments carried out when one is wrong (B3)", () => {
      const good = { sector: 0, sectors: 1 };
      refused(IOERR, { type: DISCARD, data: segments(good, good, { sector: 16, sectors: 1 }) });
      refused(UNSUPP, { type: WRITE_ZEROES, data: segments(good, { ...good, flags: 2 }) });
    });

    test("gets IOERR when its header is short or in the wrong buffers (R6)", () => {
      const { store, send } = disk();
      for (const readable of [[], [0], [15], [1, 14]]) {
        assert.deepEqual(send({ type: IN, readable }), only(IOERR));
      }
      assert.equal(send({ type: IN, readable: [], writable: [16, 513] }).status, IOERR);
      assert.deepEqual(store.log, []);
    });

    test("is dropped when there is no room for its status (R6)", () => {
      const { store, requests, send } = disk();
      for (const writable of [[], [0], [0, 0]]) {
        assert.equal(send({ type: OUT, data: pattern(512), writable }).written, 0);
      }
      assert.deepEqual(store.log, []);
      assert.match(requests.records[0]!.message, /no room for its status/);
    });

    test("finds its status in the last byte, wherever that is (R6)", () => {
      const { store, send } = disk();
      // A status buffer of no bytes: the last data byte is the status, and the data are cut short.
      const short = send({ type: IN, room: 511, writable: [512, 0] });
      assert.deepEqual([short.status, short.written], [IOERR, 0]);
      const late = send({ type: OUT, data: pattern(512), writable: [3, 4] });
      assert.deepEqual([late.status, late.written], [OK, 0]);
      assert.deepEqual(store.log, ["write 0+512"]);
    });
  });

  test("is judged by the header it had at first (R7)", () => {
    const { store, send } = disk();
    const { getUint32 } = DataView.prototype;
    // What was read once is different the next time.
    DataView.prototype.getUint32 = function (this: DataView, at, littleEndian) {
      const value = getUint32.call(this, at, littleEndian);
      if (this.byteLength > 4096) this.setUint32(at, 0xffffffff, true);
      return value;
    };
    try {
      assert.equal(send({ type: IN, sector: 1, room: 512 }).status, OK);
      assert.deepEqual(send({ type: OUT, sector: 2, data: pattern(512) }), only(OK));
      const data = segments({ sector: 3, sectors: 1 });
      assert.deepEqual(send({ type: DISCARD, data }), only(OK));
    } finally {
      DataView.prototype.getUint32 = getUint32;
    }
    assert.deepEqual(store.log, ["read 512+512", "write 1024+512", "discard 1536+512"]);
  });

  test("gets IOERR when the storage fails (B4)", () => {
    const { store, requests, send } = disk();
    store.failures.set("read", -EIO).set("write", -ENOSPC).set("flush", -EIO);
    store.failures.set("discard", -EIO).set("zero", -ENOSPC);
    const data = segments({ sector: 0, sectors: 1 });
    const read = send({ type: IN, room: 512 });
    assert.deepEqual([read.written, read.status], [0, IOERR]);
    assert.deepEqual(send({ type: OUT, data: pattern(512) }), only(IOERR));
    assert.deepEqual(send({ type: FLUSH }), only(IOERR));
    assert.deepEqual(send({ type: DISCARD, data }), only(IOERR));
    assert.deepEqual(send({ type: WRITE_ZEROES, data }), only(IOERR));
    assert.deepEqual(requests.records.slice(0, 2), [
      { level: "warn", message: "A request failed", fields: { type: IN, errno: EIO } },
      { level: "warn", message: "A request failed", fields: { type: OUT, errno: ENOSPC } },
    ]);
  });

  test("gets UNSUPP when the storage cannot do that", () => {
    const { store, send } = disk();
    store.failures.set("discard", -EOPNOTSUPP);
    const data = segments({ sector: 0, sectors: 1 });
    assert.deepEqual(send({ type: DISCARD, data }), only(UNSUPP));
  });

  test("stops at the first segment that fails", () => {
    const { store, send } = disk();
    store.failures.set("unmap", -EIO);
    const data = segments({ sector: 0, sectors: 1, flags: 1 }, { sector: 1, sectors: 1, flags: 0 });
    assert.deepEqual(send({ type: WRITE_ZEROES, data }), only(IOERR));
    assert.deepEqual(store.log, ["unmap 0+512"]);
  });

  describe("without a write cache", () => {
    test("is flushed after it is written, and before it is completed (B5)", () => {
      const { store, requests, send } = disk();
      requests.handler.writeCache = false;
      assert.deepEqual(send({ type: OUT, data: pattern(512) }), only(OK));
      const data = segments({ sector: 0, sectors: 1 }, { sector: 4, sectors: 1 });
      assert.deepEqual(send({ type: WRITE_ZEROES, data }), only(OK));
      send({ type: IN, room: 512 });
      assert.deepEqual(store.log, [
        "write 0+512",
        "flush",
        "zero 0+512",
        "zero 2048+512",
        "flush",
        "read 0+512",
      ]);
    });

    test("fails when the flush fails, and is not flushed when it failed itself (B5)", () => {
      const { store, requests, send } = disk();
      requests.handler.writeCache = false;
      store.failures.set("flush", -EIO);
      assert.deepEqual(send({ type: OUT, data: pattern(512) }), only(IOERR));
      store.failures.set("write", -ENOSPC);
      store.log.length = 0;
      assert.deepEqual(send({ type: OUT, data: pattern(512) }), only(IOERR));
      assert.deepEqual(store.log, ["write 0+512"]);
    });
  });
});
