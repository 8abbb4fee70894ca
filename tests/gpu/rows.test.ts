/**
 * What a driver or a front-end can do wrong towards a graphics device, row by row (G1 to G9 of the
 * catalogue of bad input). After each one the device works as before and holds no more than before.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { frontEndMessages } from "../../core/protocol.ts";
import { createEventFd, O_RDONLY, openFile } from "../../ffi/mod.ts";
import {
  GpuCommand,
  GpuDisplay,
  type GpuDisplayOptions,
  GpuDriver,
  GpuFormat,
  type GpuOptions,
  GpuResponse,
  gpuCommand,
  sleep,
} from "../../frontend/mod.ts";
import { fdCount, mappingsOf, residentSize } from "../support/process-status.ts";
import { launcher, Program, until } from "../support/program.ts";
import { PIXEL, picture, Surface, shows } from "./screen.ts";

const { OK, UNSPEC, OUT_OF_MEMORY, INVALID_SCANOUT_ID, INVALID_RESOURCE_ID, INVALID_PARAMETER } =
  GpuResponse;

const full = process.env.RINGSIDE_TEST_FULL === "1";
const HUGE = 0xffffffff;
const MEBIBYTE = 2 ** 20;

describe("bad input of a graphics device", () => {
  let program: Program;
  let fds = 0;
  before(() => {
    const args = ["--socket-path=SOCKET", "--blob", "--max-hostmem=64M", "--max-outputs=4"];
    program = new Program([launcher("vhost-user-gpu"), ...args]);
    fds = fdCount(program.pid);
  });
  after(() => program[Symbol.dispose]());

  const connect = (options?: GpuOptions) => GpuDriver.connect(program.socket, options);

  /** A row: a driver that does something wrong, and can do everything right afterwards. */
  function row(
    name: string,
    body: (driver: GpuDriver, display: GpuDisplay) => void,
    settings?: GpuDisplayOptions,
  ): void {
    it(name, () => {
      {
        using display = new GpuDisplay(settings);
        using driver = connect({ display, maxBytes: 400_000 });
        body(driver, display);
        driver.control.vring.side = display;
        display.options = {};
        driver.connectDisplay();
        // All of the memory is there again: nothing was lost on the way.
        driver.frontend.resetDevice();
        for (const vring of driver.frontend.vrings.splice(0)) vring[Symbol.dispose]();
        const next = new GpuDriver(driver.frontend, { display });
        assert.equal(next.create(1, 4096, 4095), OK);
        assert.equal(next.unref(1), OK);
        const surface = new Surface(next, 1, 64, 32);
        surface.paint(picture(64, 32));
        surface.setScanout();
        surface.show();
        shows(display, picture(64, 32));
      }
      until(() => (fdCount(program.pid) === fds ? true : null), "descriptors to be closed");
      assert.equal(mappingsOf(program.pid, "ringside-image"), 0, "all images are gone");
      assert.doesNotMatch(program.log, /The device failed|broke the queue/);
    });
  }

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
    const before = residentSize(program.pid);
    let small = 0;
    while (driver.create(1000 + small, 1, 1) === OK) small++;
    assert.ok(small < 5000, `${small} resources of 4 bytes`);
    assert.ok(residentSize(program.pid) - before < 32 * 1024);
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

  row(
    "G5 capsets, of which there are none, are refused with nothing behind the header",
    (driver) => {
      for (const index of [0, 1, HUGE]) {
        for (const type of [GpuCommand.GET_CAPSET_INFO, GpuCommand.GET_CAPSET]) {
          const { type: answer, bytes } = driver.command(gpuCommand(type, index, 0), 4096);
          assert.deepEqual([answer, bytes.length], [INVALID_PARAMETER, 24]);
          assert.ok(bytes.subarray(4).every((byte) => byte === 0));
        }
      }
    },
  );

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
    for (const type of [0, 0xff, 0x10e, 0x200, 0x204, 0x207, 0x208, 0x209, 0x300, 0x301, HUGE]) {
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

  row(
    "G7 responses are cut where there is no room for them, and the command is carried out",
    (driver) => {
      const create = (id: number) => gpuCommand(GpuCommand.RESOURCE_CREATE_2D, id, 2, 4, 4);
      for (const room of [0, 1, 4, 23]) {
        assert.equal(driver.command(create(room + 1), room).bytes.length, room);
        assert.equal(driver.unref(room + 1), OK);
      }
      for (const room of [0, 24, 100]) {
        const { bytes } = driver.command(gpuCommand(GpuCommand.GET_DISPLAY_INFO), room);
        assert.equal(bytes.length, room);
      }
      assert.equal(driver.control.exchange(new Uint8Array(0), 24).length, 24, "no command at all");
    },
  );

  row("G8 cursor commands that make no sense are ignored", (driver, display) => {
    const good = new Surface(driver, 1, 64, 64, GpuFormat.B8G8R8A8);
    good.paint(picture(64, 64));
    good.show();
    assert.equal(driver.create(2, 64, 63), OK);
    assert.equal(driver.create(3, 128, 128), OK);
    driver.updateCursor(4, 1, 1, 1);
    driver.updateCursor(HUGE, 1, 1, 1);
    driver.updateCursor(0, 2, 1, 1);
    driver.updateCursor(0, 3, 1, 1);
    driver.updateCursor(0, 9, 1, 1);
    driver.updateCursor(0, 1, 1, 1, 65, 0);
    driver.updateCursor(0, 1, 1, 1, 0, HUGE);
    for (const length of [0, 1, 24, 55]) {
      driver.cursor.exchange(gpuCommand(GpuCommand.UPDATE_CURSOR, 0).subarray(0, length), 8);
    }
    driver.cursor.exchange(gpuCommand(GpuCommand.GET_EDID, ...Array(20).fill(0)), 24);
    driver.updateCursor(0, 1, 30, 40, 63, 63);
    display.serveUntil(() => display.cursors[0] != null, "cursor");
    assert.deepEqual(
      display.messages.filter(({ name }) => name.startsWith("CURSOR")),
      [{ name: "CURSOR_UPDATE", numbers: [0, 30, 40, 63, 63] }],
    );
  });

  row(
    "G9 a front-end that does not read stops nothing, and gets the last picture",
    (driver, display) => {
      driver.control.vring.side = null;
      const surface = new Surface(driver, 1, 1280, 800);
      surface.setScanout();
      const before = residentSize(program.pid);
      for (let i = 0; i < 50; i++) surface.show();
      assert.ok(residentSize(program.pid) - before < 16 * 1024, "nothing is kept for it");
      for (let i = 0; i < 100; i++) driver.moveCursor(0, 1, i, i);
      const last = picture(1280, 800, 9);
      surface.paint(last);
      surface.show();
      shows(display, last);
      assert.ok(display.count("UPDATE") < 16 * 5, `${display.count("UPDATE")} updates`);
    },
  );

  row(
    "G9 a scanout that changes while nobody reads is told in the right order",
    (driver, display) => {
      driver.control.vring.side = null;
      for (let i = 1; i <= 20; i++) {
        const surface = new Surface(driver, i, 100 * i, 50);
        surface.paint(picture(100 * i, 50, i));
        surface.setScanout();
        surface.show();
        if (i > 1) assert.equal(driver.unref(i - 1), OK);
      }
      shows(display, picture(2000, 50, 20));
    },
  );

  row(
    "G9 a front-end that tells no displays leaves the driver with ours",
    (driver) => {
      const began = performance.now();
      const { type, bytes } = driver.displayInfo();
      const spent = performance.now() - began;
      const width = new DataView(bytes.buffer, bytes.byteOffset).getUint32(32, true);
      assert.deepEqual([type, width], [GpuResponse.DISPLAY_INFO, 1280]);
      assert.ok(spent < 5000, "before a driver gives up");
      const again = performance.now();
      assert.equal(driver.edid(0).type, GpuResponse.EDID);
      assert.ok(performance.now() - again < 1000, "it is asked no more");
    },
    { silent: ["GET_DISPLAY_INFO", "GET_EDID"] },
  );

  row(
    "G9 rings stop while the front-end owes an answer",
    (driver) => {
      const { memory } = driver.frontend;
      const { ring } = driver.control.vring;
      const at = memory.allocate(512);
      const command = gpuCommand(GpuCommand.GET_DISPLAY_INFO);
      memory.write(at, command);
      ring.clear();
      ring.push(at, command.length, false);
      ring.push(at + 64, 408, true);
      ring.add(0);
      driver.control.vring.publish();
      sleep(50);
      const began = performance.now();
      driver.frontend.stop();
      assert.ok(performance.now() - began < 2000);
      ring.next();
      assert.equal(ring.written, 408);
    },
    { silent: ["GET_PROTOCOL_FEATURES"] },
  );

  row(
    "G9 a socket that is closed is given up, and the device works without it",
    (driver, display) => {
      const surface = new Surface(driver, 1, 640, 480);
      surface.setScanout();
      surface.show();
      driver.control.vring.side = null;
      display.fd.close();
      for (let i = 0; i < 5; i++) surface.show();
      assert.equal(driver.displayInfo().type, GpuResponse.DISPLAY_INFO);
    },
  );

  const answers: Record<string, (display: GpuDisplay) => void> = {
    "that nobody asked for": (display) => display.sendReply(3, new Uint8Array(408), 4, 408),
    "of a wrong size": (display) => display.sendReply(1, new Uint8Array(4), 4, 4),
    "of 4 GiB": (display) => display.sendReply(1, new Uint8Array(8), 4, HUGE),
    "without the flag": (display) => display.sendReply(1, new Uint8Array(8), 0, 8),
    "to DMABUF_UPDATE": (display) => display.sendReply(10, new Uint8Array(0), 4, 0),
    "made of noise": (display) => display.sendReply(HUGE, picture(16, 16), HUGE, HUGE),
  };
  for (const [name, answer] of Object.entries(answers)) {
    row(
      `G9 an answer ${name} ends the display's socket and nothing else`,
      (driver, display) => {
        driver.control.vring.side = null;
        display.serveUntil(() => display.messages.length > 0, "question");
        answer(display);
        display.serveUntil(() => display.fd.closed, "end of the socket");
        assert.equal(driver.displayInfo().type, GpuResponse.DISPLAY_INFO);
        assert.equal(driver.create(1, 4, 4), OK);
      },
      { silent: ["GET_PROTOCOL_FEATURES"] },
    );
  }

  it("G9 GPU_SET_SOCKET with a descriptor that is no socket leaves the device alone", () => {
    using driver = connect();
    const { connection } = driver.frontend;
    using event = createEventFd();
    using file = openFile("/etc/passwd", O_RDONLY);
    for (const fd of [event, file]) {
      assert.throws(() => connection.command(frontEndMessages.GPU_SET_SOCKET, undefined, [fd]));
    }
    assert.equal(driver.create(1, 4, 4), OK);
  });

  it("holds no more after many cycles of create, attach, show and unref", () => {
    using display = new GpuDisplay();
    using driver = connect({ display });
    const { frontend } = driver;
    const rect = { x: 0, y: 0, width: 320, height: 200 };
    const length = 320 * 200 * PIXEL;
    const pieces = [{ address: frontend.memory.allocate(length, 4096), length }];
    const cycle = () => {
      assert.equal(driver.create(1, 320, 200), OK);
      assert.equal(driver.attach(1, pieces), OK);
      assert.equal(driver.setScanout(0, 1, rect), OK);
      assert.equal(driver.transfer(1, { ...rect, height: 1 }, 0), OK);
      assert.equal(driver.unref(1), OK);
      display.messages.length = 0;
    };
    for (let i = 0; i < 500; i++) cycle();
    const before = { rss: residentSize(program.pid), fds: fdCount(program.pid) };
    for (let i = 0; i < (full ? 100_000 : 2000); i++) cycle();
    const grown = residentSize(program.pid) - before.rss;
    assert.ok(grown < 24 * 1024, `${grown} KiB more`);
    assert.equal(fdCount(program.pid), before.fds);
  });
});
