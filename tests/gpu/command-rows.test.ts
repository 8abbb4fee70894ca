/**
 * What a driver can do wrong towards a graphics device: rows G1 to G6 of the catalogue of bad input.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { GpuCommand, GpuFormat, GpuResponse, gpuCommand } from "../../frontend/mod.ts";
import { residentSize } from "../support/process-status.ts";
import { eachCard } from "./card.ts";
import { HUGE, suite } from "./row.ts";
import { PIXEL, Surface } from "./screen.ts";

const { OK, UNSPEC, OUT_OF_MEMORY, INVALID_SCANOUT_ID, INVALID_RESOURCE_ID, INVALID_PARAMETER } =
  GpuResponse;

const MEBIBYTE = 2 ** 20;

eachCard("bad commands of a graphics driver", (card) => {
  const { row, connect, pid } = suite(card);

  row("G1 sizes, formats and ids that no resource has are refused", (driver) => {
    const { B8G8R8X8 } = GpuFormat;
    for (const [width, height] of [
      [0, 1],
      [1, 0],
      [16385, 1],
      [1, 16385],
      [0x10000, 0x10000],
      [HUGE, HUGE],
      [0x40000000, 4],
    ] as const) {
      assert.equal(driver.create(1, width, height), INVALID_PARAMETER, `${width} by ${height}`);
    }
    for (const format of [0, 5, 66, 135, HUGE]) {
      assert.equal(driver.create(1, 4, 4, format), INVALID_PARAMETER, `format ${format}`);
    }
    assert.equal(driver.create(0, 4, 4), INVALID_RESOURCE_ID);
    assert.equal(driver.create(HUGE, 4, 4), OK);
    assert.equal(driver.create(HUGE, 8, 8), INVALID_RESOURCE_ID, "twice");
    assert.equal(driver.create(2, 16384, 16384, B8G8R8X8), OUT_OF_MEMORY);
  });

  row("G1 more memory than the guest's share is refused, as often as it likes", (driver) => {
    let count = 0;
    while (driver.create(count + 1, 1024, 1024) === OK) count++;
    assert.equal(count, 15, "images of 4 MiB and what they cost besides, in 64 MiB");
    for (let i = 0; i < 100; i++) assert.equal(driver.create(100, 1024, 1024), OUT_OF_MEMORY);
    assert.equal(driver.unref(3), OK);
    assert.equal(driver.create(100, 1024, 1024), OK);
    // Resources of a pixel cost what their objects do.
    const before = residentSize(pid());
    let small = 0;
    while (driver.create(1000 + small, 1, 1) === OK) small++;
    assert.ok(small < 5000, `${small} resources of 4 bytes`);
    assert.ok(residentSize(pid()) - before < 32 * 1024);
  });

  row("G2 guest memory that is none, too much or not there is refused", (driver) => {
    const { frontend } = driver;
    const address = frontend.memory.allocate(4096, 4096);
    const page = { address, length: 4096 };
    assert.equal(driver.create(1, 32, 32), OK);
    assert.equal(driver.attach(1, []), INVALID_PARAMETER);
    assert.equal(driver.attach(1, [page], 2), INVALID_PARAMETER, "more than there are");
    assert.equal(driver.attach(1, [page], HUGE), INVALID_PARAMETER);
    const many = Array.from({ length: 16385 }, () => ({ address, length: 1 }));
    assert.equal(driver.attach(1, many), INVALID_PARAMETER);
    assert.equal(driver.attach(1, [page, { address: 0x1000, length: 1 }]), UNSPEC);
    assert.equal(driver.attach(1, [{ address, length: HUGE }]), UNSPEC);
    assert.equal(driver.attach(1, [{ address: 2 ** 52, length: 16 }]), UNSPEC);
    assert.equal(driver.attach(2, [page]), INVALID_RESOURCE_ID);
    assert.equal(driver.detach(1), UNSPEC, "none is attached");
    assert.equal(driver.attach(1, many.slice(1)), OK);
    assert.equal(driver.attach(1, [page]), UNSPEC, "twice");
    assert.equal(driver.detach(1), OK);
    assert.equal(driver.attach(1, [{ address, length: 0 }, page]), OK);
    assert.equal(driver.transfer(1, { x: 0, y: 0, width: 32, height: 32 }, 0), OK);
  });

  row("G2 no memory is lost by attaching, detaching and giving up resources", (driver) => {
    const address = driver.frontend.memory.allocate(4096, 4096);
    const pieces = Array.from({ length: 16384 }, () => ({ address, length: 1 }));
    for (let i = 0; i < 300; i++) {
      assert.equal(driver.create(1, 32, 32), OK);
      assert.equal(driver.attach(1, pieces), OK);
      if (i % 2 === 0) assert.equal(driver.detach(1), OK);
      assert.equal(driver.unref(1), OK);
    }
    // 384 KiB each time: after 170 times there would be none left.
  });

  row("G3 rectangles and offsets beyond the image or its memory are refused", (driver) => {
    const surface = new Surface(driver, 1, 32, 32);
    const rect = (x: number, y: number, width: number, height: number) => ({ x, y, width, height });
    for (const wrong of [
      rect(1, 0, 32, 32),
      rect(0, 1, 32, 32),
      rect(0, 0, 33, 1),
      rect(0, 0, 1, 33),
      rect(HUGE, 0, 1, 1),
      rect(0, HUGE, 1, 1),
      rect(1, 1, HUGE, HUGE),
      rect(33, 0, 0, 0),
    ]) {
      assert.equal(driver.transfer(1, wrong, 0), INVALID_PARAMETER, JSON.stringify(wrong));
      assert.equal(driver.flush(1, wrong), INVALID_PARAMETER);
    }
    for (const offset of [1, 4, 4096, 2 ** 32, 2 ** 53 - 1]) {
      assert.equal(driver.transfer(1, surface.rect, offset), INVALID_PARAMETER, `${offset}`);
    }
    assert.equal(driver.transfer(1, rect(0, 0, 1, 1), 4092), OK, "the last pixel");
    assert.equal(driver.transfer(1, rect(0, 0, 1, 1), 4093), INVALID_PARAMETER);
    const command = gpuCommand(GpuCommand.TRANSFER_TO_HOST_2D, 0, 0, 1, 1, HUGE, HUGE, 1, 0);
    assert.equal(driver.command(command).type, INVALID_PARAMETER, "an offset of 2^64 - 1");
    assert.equal(driver.transfer(1, rect(0, 0, 0, 0), 0), OK, "nothing at all");
    assert.equal(driver.transfer(7, surface.rect, 0), INVALID_RESOURCE_ID);
    assert.equal(driver.create(2, 32, 32), OK);
    assert.equal(driver.transfer(2, surface.rect, 0), UNSPEC, "without guest memory");
    assert.equal(driver.attach(2, [{ address: surface.address, length: 4095 }]), OK);
    assert.equal(driver.transfer(2, surface.rect, 0), INVALID_PARAMETER, "too little of it");
  });

  row("G3 guest memory that has gone away is refused and not read", (driver) => {
    const { frontend } = driver;
    const region = frontend.addRegion(MEBIBYTE);
    const { guestAddress } = region.plan;
    assert.equal(driver.create(1, 256, 256), OK);
    const pieces = [{ address: guestAddress, length: 256 * 256 * PIXEL }];
    assert.equal(driver.attach(1, pieces), OK);
    const rect = { x: 0, y: 0, width: 256, height: 256 };
    assert.equal(driver.transfer(1, rect, 0), OK);
    frontend.removeRegion(region);
    assert.equal(driver.transfer(1, rect, 0), UNSPEC);
    assert.equal(driver.unref(1), OK);
  });

  row("G4 scanouts that are not there or not in the resource are refused", (driver, display) => {
    const surface = new Surface(driver, 1, 64, 64);
    const { rect } = surface;
    for (const output of [4, 15, 16, HUGE]) {
      assert.equal(driver.setScanout(output, 1, rect), INVALID_SCANOUT_ID);
      assert.equal(driver.setScanout(output, 0, rect), INVALID_SCANOUT_ID);
    }
    assert.equal(driver.setScanout(0, 9, rect), INVALID_RESOURCE_ID);
    for (const wrong of [
      { x: 0, y: 0, width: 65, height: 64 },
      { x: 1, y: 0, width: 64, height: 64 },
      { x: 0, y: HUGE, width: 1, height: 1 },
      { x: 0, y: 0, width: 0, height: 1 },
      { x: 0, y: 0, width: 1, height: 0 },
    ]) {
      assert.equal(driver.setScanout(0, 1, wrong), INVALID_PARAMETER, JSON.stringify(wrong));
    }
    surface.setScanout(3);
    display.serveUntil(() => display.screens[3] != null, "picture");
    assert.equal(driver.unref(1), OK, "while it is shown");
    display.serveUntil(() => display.screens[3] === null, "end of the picture");
    assert.equal(driver.flush(1, rect), INVALID_RESOURCE_ID);
    assert.equal(driver.unref(1), INVALID_RESOURCE_ID);
  });

  row("G5 capsets that there are not are refused with nothing behind the header", (driver) => {
    for (const index of card.length > 0 ? [3, HUGE] : [0, 1, HUGE]) {
      for (const type of [GpuCommand.GET_CAPSET_INFO, GpuCommand.GET_CAPSET]) {
        const { type: answer, bytes } = driver.command(gpuCommand(type, index, 0), 4096);
        assert.deepEqual([answer, bytes.length], [INVALID_PARAMETER, 24]);
        assert.ok(bytes.subarray(4).every((byte) => byte === 0));
      }
    }
  });

  row("G5 no answer contains bytes of an earlier one", (driver) => {
    const { bytes } = driver.edid(0);
    assert.ok(bytes.subarray(24).some((byte) => byte !== 0));
    const info = driver.displayInfo();
    assert.ok(info.bytes.subarray(24 + 24).every((byte) => byte === 0));
    assert.equal(driver.create(1, 4, 4), OK);
    assert.ok(
      driver
        .assignUuid(1)
        .bytes.subarray(24)
        .some((byte) => byte !== 0),
    );
    assert.equal(
      driver.command(gpuCommand(GpuCommand.RESOURCE_UNREF, 1, 0), 1000).bytes.length,
      24,
    );
  });

  row("G6 3D commands, unknown ones and those that are too short are refused", (driver) => {
    const threeD = card.length > 0 ? [] : [0x200, 0x204, 0x207];
    for (const type of [0, 0xff, 0x10e, ...threeD, 0x208, 0x209, 0x300, 0x301, HUGE]) {
      const { type: answer } = driver.command(gpuCommand(type, ...Array(32).fill(1)));
      assert.equal(answer, UNSPEC, `command 0x${type.toString(16)}`);
    }
    for (const type of Object.values(GpuCommand).filter((code) => code < 0x200)) {
      for (const length of [1, 3, 4, 23]) {
        const { type: answer } = driver.command(gpuCommand(type).subarray(0, length));
        assert.equal(answer, INVALID_PARAMETER, `0x${type.toString(16)} of ${length} bytes`);
      }
    }
    const set = gpuCommand(GpuCommand.SET_SCANOUT, 0, 0, 1, 1, 0).subarray(0, 47);
    assert.equal(driver.command(set).type, INVALID_PARAMETER);
  });

  it("G6 commands of features that were not accepted are refused", () => {
    using driver = connect({ features: 1n << 32n });
    const address = driver.frontend.memory.allocate(4096, 4096);
    const rect = { x: 0, y: 0, width: 4, height: 4 };
    assert.equal(driver.create(1, 4, 4), OK);
    assert.equal(driver.createBlob(2, 4096, [{ address, length: 4096 }]), UNSPEC);
    assert.equal(driver.setScanoutBlob(0, 1, rect), UNSPEC);
    assert.equal(driver.assignUuid(1).type, UNSPEC);
    assert.equal(driver.edid(0).type, UNSPEC);
  });

  row("G6 no memory is lost by showing blobs in many sizes", (driver) => {
    const length = 4 * MEBIBYTE;
    const address = driver.frontend.memory.allocate(length, 4096);
    assert.equal(driver.createBlob(1, length, [{ address, length }]), OK);
    for (let i = 0; i < 40; i++) {
      const rect = { x: 0, y: 0, width: 1024, height: 1024 - (i % 3) };
      assert.equal(driver.setScanoutBlob(i % 2, 1, rect), OK);
    }
  });

  row("G6 blobs that do not fit their memory, or are no images, are refused", (driver) => {
    const address = driver.frontend.memory.allocate(8192, 4096);
    const pieces = [{ address, length: 8192 }];
    const rect = { x: 0, y: 0, width: 32, height: 32 };
    assert.equal(driver.createBlob(0, 4096, pieces), INVALID_RESOURCE_ID);
    assert.equal(driver.createBlob(1, 0, pieces), INVALID_PARAMETER);
    assert.equal(driver.createBlob(1, 8193, pieces), INVALID_PARAMETER, "QEMU #4112");
    assert.equal(driver.createBlob(1, 2 ** 53 - 1, pieces), INVALID_PARAMETER);
    for (const memory of [0, 2, 3, HUGE]) {
      assert.equal(driver.createBlob(1, 4096, pieces, memory), INVALID_PARAMETER);
    }
    assert.equal(driver.createBlob(1, 8192, []), INVALID_PARAMETER);
    assert.equal(driver.createBlob(1, 8192, pieces), OK);
    assert.equal(driver.createBlob(1, 8192, pieces), INVALID_RESOURCE_ID);
    assert.equal(driver.setScanout(0, 1, rect), INVALID_PARAMETER, "as an image");
    assert.equal(driver.transfer(1, rect, 0), INVALID_PARAMETER);
    assert.equal(driver.setScanoutBlob(0, 1, rect, 127), INVALID_PARAMETER, "rows overlap");
    assert.equal(driver.setScanoutBlob(0, 1, rect, HUGE), INVALID_PARAMETER);
    assert.equal(driver.setScanoutBlob(0, 1, rect, 128, 77), INVALID_PARAMETER);
    assert.equal(driver.setScanoutBlob(4, 1, rect), INVALID_SCANOUT_ID);
    assert.equal(driver.setScanoutBlob(0, 2, rect), INVALID_RESOURCE_ID);
    assert.equal(driver.setScanoutBlob(0, 1, { ...rect, width: 0 }), INVALID_PARAMETER);
    assert.equal(driver.setScanoutBlob(0, 1, { ...rect, height: 65 }), INVALID_PARAMETER);
    for (let i = 0; i < 100; i++) assert.equal(driver.setScanoutBlob(0, 1, rect), OK);
    assert.equal(driver.detach(1), OK);
    assert.equal(driver.flush(1, rect), UNSPEC, "its memory is gone");
    assert.equal(driver.attach(1, [{ address, length: 100 }]), INVALID_PARAMETER);
    assert.equal(driver.create(3, 4, 4), OK);
    assert.equal(driver.setScanoutBlob(0, 3, rect), INVALID_PARAMETER, "an image as a blob");
  });
});
