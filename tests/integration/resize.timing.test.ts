/** A disk whose file grows while it is served. The one thing timed: how soon the driver learns of it. */
import assert from "node:assert/strict";
import { truncateSync } from "node:fs";
import { describe, it } from "node:test";
import { has, mask } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { BlkDriver, BlkRequest, BlkStatus } from "../../frontend/mod.ts";
import { MIB, serveBlk } from "../support/blk.ts";
import { Folder } from "../support/folder.ts";
import { until } from "../support/program.ts";

/** What the driver is promised, in milliseconds. */
const PROMISED = 2000;
/** A busy machine adds to it. */
const PATIENCE = PROMISED + 1000;

describe("a file that grows", () => {
  it("is announced within two seconds, and the new sectors can be used", () => {
    using folder = new Folder();
    const image = folder.image(MIB);
    using program = serveBlk(image, [], { folder });
    using driver = BlkDriver.connect(program.socket);
    const data = new Uint8Array(512).fill(3);
    const sector = MIB / 512;
    assert.equal(driver.request(BlkRequest.OUT, sector, 512), BlkStatus.IOERR);
    truncateSync(image, 3 * MIB);
    driver.frontend.requests.expect("CONFIG_CHANGE_MSG", PATIENCE);
    assert.equal(driver.size(), 3 * MIB);
    driver.write(sector, data);
    assert.deepEqual(driver.read(sector, 512), data);
    assert.equal(driver.frontend.requests.receive(0), null, "it is announced once");
  });

  it("is announced at once when the program is told by SIGHUP", () => {
    using folder = new Folder();
    const image = folder.image(MIB);
    using program = serveBlk(image, [], { folder });
    using driver = BlkDriver.connect(program.socket);
    const start = performance.now();
    for (let size = 2; size <= 11; size++) {
      truncateSync(image, size * MIB);
      program.signal("SIGHUP");
      driver.frontend.requests.expect("CONFIG_CHANGE_MSG", PATIENCE);
      assert.equal(driver.size(), size * MIB);
    }
    // Ten changes that are only found by looking once per second take nine seconds at least.
    assert.ok(performance.now() - start < 5000, "ten changes");
    assert.ok(program.alive);
  });

  it("is seen by drivers that cannot be told, and by those that come later", () => {
    using folder = new Folder();
    const image = folder.image(MIB);
    using program = serveBlk(image, [], { folder });
    {
      using driver = BlkDriver.connect(program.socket, {
        protocol: mask(ProtocolFeature.CONFIG),
      });
      assert.equal(has(driver.frontend.agreed.protocol, ProtocolFeature.BACKEND_REQ), false);
      truncateSync(image, 2 * MIB);
      until(() => (driver.size() === 2 * MIB ? true : null), "the new size", PATIENCE);
    }
    truncateSync(image, 4 * MIB);
    program.signal("SIGHUP");
    until(() => {
      using driver = BlkDriver.connect(program.socket);
      return driver.size() === 4 * MIB ? true : null;
    }, "the new size");
  });

  it("that shrinks answers with errors beyond its end and goes on", () => {
    using folder = new Folder();
    const image = folder.image(2 * MIB);
    using program = serveBlk(image, [], { folder });
    using driver = BlkDriver.connect(program.socket);
    const last = (2 * MIB) / 512 - 1;
    driver.write(0, new Uint8Array(512).fill(5));
    truncateSync(image, MIB);
    assert.equal(driver.request(BlkRequest.IN, last, 512), BlkStatus.IOERR);
    driver.frontend.requests.expect("CONFIG_CHANGE_MSG", PATIENCE);
    assert.equal(driver.size(), MIB);
    assert.equal(driver.request(BlkRequest.OUT, last, 512), BlkStatus.IOERR);
    assert.deepEqual(driver.read(0, 512), new Uint8Array(512).fill(5));
  });
});
