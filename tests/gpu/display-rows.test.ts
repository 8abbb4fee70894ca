/**
 * What a driver or a front-end can do wrong towards a graphics device's answers, cursors and displays:
 * rows G7 to G9 of the catalogue of bad input.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { frontEndMessages } from "../../core/protocol.ts";
import { createEventFd, O_RDONLY, openFile } from "../../ffi/mod.ts";
import {
  GpuCommand,
  GpuDisplay,
  GpuFormat,
  GpuResponse,
  gpuCommand,
  sleep,
} from "../../frontend/mod.ts";
import { fdCount, residentSize } from "../support/process-status.ts";
import { eachCard } from "./card.ts";
import { HUGE, suite } from "./row.ts";
import { PIXEL, picture, Surface, shows } from "./screen.ts";

const { OK } = GpuResponse;

const full = process.env.RINGSIDE_TEST_FULL === "1";

eachCard("bad behaviour around a graphics device", (card) => {
  const { row, connect, pid } = suite(card);

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
      const before = residentSize(pid());
      for (let i = 0; i < 50; i++) surface.show();
      assert.ok(residentSize(pid()) - before < 16 * 1024, "nothing is kept for it");
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
    const before = { rss: residentSize(pid()), fds: fdCount(pid()) };
    for (let i = 0; i < (full ? 100_000 : 2000); i++) cycle();
    const grown = residentSize(pid()) - before.rss;
    assert.ok(grown < 24 * 1024, `${grown} KiB more`);
    assert.equal(fdCount(pid()), before.fds);
  });
});
