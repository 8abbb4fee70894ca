/** Every block request, on each store, with verified data. */
import assert from "node:assert/strict";
import { closeSync, openSync, writeSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { has } from "../../core/features.ts";
import {
  BlkDriver,
  BlkFeature,
  type BlkOptions,
  BlkRequest,
  BlkStatus,
  encodeRanges,
  runWorkload,
} from "../../frontend/mod.ts";
import { assertClean, compare, MIB, serveBlk, verifyDriver } from "../support/blk.ts";
import { Folder } from "../support/folder.ts";
import type { Program } from "../support/program.ts";

const SIZE = 16 * MIB;
const SECTORS = SIZE / 512;
const IMAGE = "disk.img";

const bytesOf = (length: number, seed = 1) =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) + seed) & 0xff);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).replace(/\0*$/, "");

/** Runs the tests of `body` against a program that serves `store`. */
function withProgram(
  store: (folder: Folder) => string,
  args: readonly string[],
  body: (use: { connect: (options?: BlkOptions) => BlkDriver; folder: () => Folder }) => void,
): void {
  let folder: Folder;
  let program: Program;
  before(() => {
    folder = new Folder();
    program = serveBlk(store(folder), args, { folder });
  });
  after(() => {
    program[Symbol.dispose]();
    folder[Symbol.dispose]();
  });
  body({
    connect: (options) => BlkDriver.connect(program.socket, options),
    folder: () => folder,
  });
}

const stores = {
  file: (folder: Folder) => folder.image(SIZE, IMAGE),
  ram: () => "ram:16M",
};

for (const [name, store] of Object.entries(stores)) {
  describe(`block requests on a ${name} store`, () => {
    withProgram(store, [], ({ connect }) => {
      it("keep their data over random reads and writes on four queues", () => {
        using driver = connect({ queues: 4 });
        verifyDriver(driver, { blocks: 1024, mixed: 4000 });
      });

      it("keep their data when the next front-end comes", () => {
        let journal: ReturnType<typeof verifyDriver>;
        {
          using driver = connect();
          journal = verifyDriver(driver);
          driver.flush();
        }
        using driver = connect();
        compare(driver, journal);
      });

      it("have any size up to a mebibyte", () => {
        using driver = connect({ maxBytes: MIB, depth: 2 });
        for (const length of [512, 1024, 4096, 65_536 + 512, MIB]) {
          const data = bytesOf(length, length);
          driver.write(9, data);
          assert.deepEqual(driver.read(9, length), data);
        }
      });

      it("reach the last sector and nothing beyond", () => {
        using driver = connect();
        const data = bytesOf(512);
        driver.write(SECTORS - 1, data);
        assert.deepEqual(driver.read(SECTORS - 1, 512), data);
        for (const [sector, length] of [
          [SECTORS, 512],
          [SECTORS - 1, 1024],
          [2 ** 40, 512],
          [2 ** 52, 512],
          [0, 511],
          [0, 513],
          [0, 0],
        ] as const) {
          for (const type of [BlkRequest.IN, BlkRequest.OUT]) {
            const status = driver.request(type, sector, length);
            assert.equal(status, BlkStatus.IOERR, `${length} bytes at sector ${sector}`);
          }
        }
        assert.deepEqual(driver.read(SECTORS - 1, 512), data);
      });

      it("flush", () => {
        using driver = connect({ queues: 2 });
        driver.flush(0);
        driver.flush(1);
      });

      it("discard ranges, and read zeros there", () => {
        using driver = connect();
        const data = bytesOf(64 * 512);
        driver.write(100, data);
        driver.discard([
          { sector: 100, sectors: 8 },
          { sector: 120, sectors: 1 },
          { sector: 156, sectors: 8 },
        ]);
        const expected = data.slice();
        expected
          .fill(0, 0, 8 * 512)
          .fill(0, 20 * 512, 21 * 512)
          .fill(0, 56 * 512);
        assert.deepEqual(driver.read(100, data.length), expected);
      });

      it("write zeros, with and without freeing the storage", () => {
        using driver = connect();
        for (const unmap of [false, true]) {
          const data = bytesOf(32 * 512, 5);
          driver.write(40, data);
          driver.writeZeroes([{ sector: 41, sectors: 2 }], unmap);
          assert.deepEqual(driver.read(40, data.length), data.slice().fill(0, 512, 1536));
        }
      });

      it("refuse ranges that are wrong, and carry none of them out", () => {
        using driver = connect();
        const { maxDiscardSectors, maxDiscardRanges, maxWriteZeroesSectors } = driver.config();
        const data = bytesOf(512, 3);
        driver.write(8, data);
        const run = (type: number, bytes: Uint8Array) =>
          driver.request(type, 0, bytes.length, { data: bytes });
        const good = { sector: 8, sectors: 1 };
        const both = [BlkRequest.DISCARD, BlkRequest.WRITE_ZEROES];
        for (const type of both) {
          const outside = encodeRanges([good, { sector: SECTORS, sectors: 1 }], 0);
          assert.equal(run(type, outside), BlkStatus.IOERR);
          const across = encodeRanges([good, { sector: SECTORS - 1, sectors: 2 }], 0);
          assert.equal(run(type, across), BlkStatus.IOERR);
          assert.equal(run(type, encodeRanges([good], 2)), BlkStatus.UNSUPP, "an unknown flag");
          assert.equal(run(type, new Uint8Array(0)), BlkStatus.IOERR, "no range");
          assert.equal(run(type, encodeRanges([good], 0).subarray(0, 15)), BlkStatus.IOERR);
          const many = Array.from({ length: maxDiscardRanges + 1 }, () => good);
          assert.equal(run(type, encodeRanges(many, 0)), BlkStatus.IOERR, "too many ranges");
        }
        assert.equal(run(BlkRequest.DISCARD, encodeRanges([good], 1)), BlkStatus.UNSUPP);
        for (const [type, limit] of [
          [BlkRequest.DISCARD, maxDiscardSectors],
          [BlkRequest.WRITE_ZEROES, maxWriteZeroesSectors],
        ] as const) {
          const long = encodeRanges([{ sector: 0, sectors: limit + 1 }], 0);
          assert.equal(run(type, long), BlkStatus.IOERR, "a range that is too long");
        }
        assert.deepEqual(driver.read(8, 512), data);
      });

      it("tell the serial number, as much of it as there is room for", () => {
        using driver = connect();
        assert.equal(text(driver.id()), "ringside");
        let part = "";
        const result = (data: Uint8Array) => {
          part = text(data);
        };
        assert.equal(driver.request(BlkRequest.GET_ID, 0, 4, { result }), BlkStatus.OK);
        assert.equal(part, "ring");
      });

      it("tell how many bytes were written", () => {
        using driver = connect();
        driver.write(0, bytesOf(1536));
        driver.read(0, 1536);
        driver.flush();
        driver.id();
        driver.discard([{ sector: 0, sectors: 1 }]);
        driver.writeZeroes([{ sector: 1, sectors: 1 }]);
        assert.equal(driver.queues[0]!.oddLengths, 0);
      });

      it("of unknown types are answered as such", () => {
        using driver = connect();
        for (const type of [2, 7, 10, 14, 16, 0xffff_ffff]) {
          assert.equal(driver.request(type, 0, 512), BlkStatus.UNSUPP, `type ${type}`);
        }
      });
    });
  });
}

describe("the file behind the disk", () => {
  withProgram(stores.file, [], ({ connect, folder }) => {
    it("holds what was written, where it was written", () => {
      using driver = connect();
      const data = bytesOf(8192);
      driver.write(1000, data);
      driver.flush();
      assert.deepEqual(folder().read(IMAGE, 1000 * 512, data.length), data);
    });

    it("is what the workload compares: it counts blocks that somebody else has changed", () => {
      using driver = connect();
      const journal = verifyDriver(driver, { blocks: 64, mixed: 0 });
      const file = openSync(folder().at(IMAGE), "r+");
      for (const block of [3, 40, 63]) {
        writeSync(file, Uint8Array.of(1, 2, 3), 0, 3, block * journal.blockSize + 100);
      }
      closeSync(file);
      const all = { operation: "read", order: "sequential", blocks: 64, journal } as const;
      assert.equal(runWorkload(driver, all).wrong, 3);
      assert.equal(runWorkload(driver, { ...all, journal: null }).wrong, 0, "nothing is compared");
    });

    it("stays sparse, and gives freed storage back", () => {
      using driver = connect();
      driver.discard([{ sector: 0, sectors: SECTORS }]);
      assert.equal(folder().allocated(IMAGE), 0);
      driver.write(4096, bytesOf(65_536));
      assert.equal(folder().allocated(IMAGE), 65_536);
      driver.writeZeroes([{ sector: 4096, sectors: 64 }], false);
      assert.equal(folder().allocated(IMAGE), 65_536);
      driver.writeZeroes([{ sector: 4096, sectors: 64 }], true);
      assert.equal(folder().allocated(IMAGE), 32_768);
      driver.discard([{ sector: 4096 + 64, sectors: 64 }]);
      assert.equal(folder().allocated(IMAGE), 0);
    });
  });
});

describe("a null store", () => {
  withProgram(
    () => "null:1T",
    [],
    ({ connect }) => {
      it("takes everything, and reads as whatever the buffers hold", () => {
        using driver = connect({ queues: 2 });
        assert.equal(driver.size(), 2 ** 40);
        const common = { order: "random", requests: 5000, journal: null } as const;
        assertClean(runWorkload(driver, { operation: "mixed", ...common, blocks: 2 ** 28 }), 5000);
        driver.write(2 ** 31 - 1, bytesOf(512));
        assert.equal(driver.read(2 ** 31 - 1, 512).length, 512);
        driver.flush();
      });
    },
  );
});

describe("a read-only disk", () => {
  withProgram(stores.file, ["--read-only"], ({ connect, folder }) => {
    it("is offered as such, refuses changes and can be read", () => {
      using driver = connect();
      const { features } = driver.frontend;
      assert.ok(has(features, BlkFeature.RO));
      for (const feature of [BlkFeature.DISCARD, BlkFeature.WRITE_ZEROES, BlkFeature.CONFIG_WCE]) {
        assert.equal(has(features, feature), false);
      }
      const data = encodeRanges([{ sector: 0, sectors: 8 }], 0);
      assert.equal(driver.request(BlkRequest.OUT, 0, 512), BlkStatus.IOERR);
      for (const type of [BlkRequest.DISCARD, BlkRequest.WRITE_ZEROES]) {
        assert.notEqual(driver.request(type, 0, data.length, { data }), BlkStatus.OK);
      }
      assert.deepEqual(driver.read(0, 512), new Uint8Array(512));
      driver.flush();
      assert.equal(folder().allocated(IMAGE), 0);
    });
  });
});

describe("a disk with blocks of 4096 bytes", () => {
  withProgram(stores.file, ["--logical-block-size=4096"], ({ connect }) => {
    it("says so, and takes whole blocks only", () => {
      using driver = connect();
      assert.equal(driver.config().blockSize, 4096);
      assert.equal(driver.config().capacity, BigInt(SECTORS), "still in sectors of 512 bytes");
      verifyDriver(driver);
      for (const [sector, length] of [
        [1, 4096],
        [0, 512],
        [8, 4096 + 512],
      ] as const) {
        assert.equal(driver.request(BlkRequest.IN, sector, length), BlkStatus.IOERR);
        assert.equal(driver.request(BlkRequest.OUT, sector, length), BlkStatus.IOERR);
      }
      const data = encodeRanges([{ sector: 8, sectors: 1 }], 0);
      for (const type of [BlkRequest.DISCARD, BlkRequest.WRITE_ZEROES]) {
        assert.equal(driver.request(type, 0, data.length, { data }), BlkStatus.IOERR);
      }
    });
  });
});

describe("a disk with options", () => {
  withProgram(stores.file, ["--serial=a-serial-number-of20", "--num-queues=16"], ({ connect }) => {
    it("has the serial number and as many queues as it was told", () => {
      using driver = connect({ queues: 16, ringSize: 16, maxBytes: 4096 });
      assert.equal(new TextDecoder().decode(driver.id()), "a-serial-number-of20");
      assert.ok(driver.frontend.agreed.queues! >= 16);
      assert.equal(driver.config().queues, 16);
      verifyDriver(driver);
    });
  });
});
