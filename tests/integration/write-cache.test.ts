/** When written data is made durable: each time the program syncs its file is counted. */
import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { describe, it } from "node:test";
import { mask } from "../../core/features.ts";
import { BlkDriver, BlkFeature, BlkRequest, ringFeatures } from "../../frontend/mod.ts";
import { drain, MIB, serveBlk } from "../support/blk.ts";
import { Folder } from "../support/folder.ts";
import type { Program } from "../support/program.ts";
import { buildTool, compilerMissing } from "../tools/build.ts";

class Disk implements Disposable {
  readonly folder = new Folder();
  readonly program: Program;
  readonly #count: string;

  constructor(args: readonly string[] = []) {
    const shim = buildTool("tests/tools/uring-shim.c", { shared: true });
    this.#count = this.folder.at("count");
    const env = { RINGSIDE_LIBC: shim, RINGSIDE_SYNC_COUNT: this.#count };
    this.program = serveBlk(this.folder.image(MIB), args, { folder: this.folder, env });
  }

  get syncs(): number {
    return existsSync(this.#count) ? statSync(this.#count).size : 0;
  }

  /** How often the program synced during `action`. */
  during(action: () => void): number {
    const before = this.syncs;
    action();
    return this.syncs - before;
  }

  [Symbol.dispose](): void {
    this.program[Symbol.dispose]();
    this.folder[Symbol.dispose]();
  }
}

const data = new Uint8Array(512).fill(1);

const skip = compilerMissing() ?? false;

for (const aio of ["preadv", "auto", "io_uring"]) {
  describe(`the write cache with --aio=${aio}`, { skip }, () => rows(`--aio=${aio}`));
}

function rows(aio: string): void {
  it("keeps writes until they are flushed", () => {
    using disk = new Disk([aio]);
    using driver = BlkDriver.connect(disk.program.socket);
    const write = () => driver.write(0, data);
    assert.equal(disk.during(write), 0);
    assert.equal(
      disk.during(() => driver.flush()),
      1,
    );
    assert.equal(
      disk.during(() => driver.read(0, 512)),
      0,
    );
  });

  it("is flushed when it is switched off; writes are durable from then on", () => {
    using disk = new Disk([aio]);
    using driver = BlkDriver.connect(disk.program.socket);
    const write = () => driver.write(0, data);
    const zero = () => driver.writeZeroes([{ sector: 0, sectors: 8 }]);
    const switchOff = () => driver.setWriteback(false);
    assert.equal(disk.during(write), 0);
    assert.equal(disk.during(switchOff), 1);
    assert.equal(disk.during(write), 1);
    assert.equal(disk.during(zero), 1);
    driver.setWriteback(true);
    assert.equal(disk.during(write), 0);
    assert.equal(disk.during(zero), 0);
  });

  it("can be switched while writes are in flight", () => {
    using disk = new Disk([aio]);
    using driver = BlkDriver.connect(disk.program.socket);
    const [queue] = driver.queues;
    for (let round = 0; round < 40; round++) {
      for (let slot = queue!.acquire(); slot >= 0; slot = queue!.acquire()) {
        queue!.submit(slot, BlkRequest.OUT, slot * 8, 4096);
      }
      queue!.publish();
      driver.setWriteback(round % 2 === 1);
      drain(queue!, (slot) => assert.equal(queue!.status(slot), 0));
    }
    assert.ok(disk.syncs >= 20, "each switch to write-through flushes");
  });

  it("is off with --cache=writethrough", () => {
    using disk = new Disk([aio, "--cache=writethrough"]);
    using driver = BlkDriver.connect(disk.program.socket);
    assert.equal(driver.config().writeback, 0);
    assert.equal(
      disk.during(() => driver.write(0, data)),
      1,
    );
    driver.setWriteback(true);
    assert.equal(
      disk.during(() => driver.write(0, data)),
      0,
    );
  });

  it("is not used for drivers that do not know how to flush it", () => {
    using disk = new Disk([aio]);
    const features = ringFeatures | mask(BlkFeature.CONFIG_WCE);
    {
      using driver = BlkDriver.connect(disk.program.socket, { features });
      assert.equal(
        disk.during(() => driver.write(0, data)),
        1,
      );
    }
    using driver = BlkDriver.connect(disk.program.socket);
    assert.equal(
      disk.during(() => driver.write(0, data)),
      0,
    );
  });
}
