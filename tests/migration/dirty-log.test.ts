/** The bits of a dirty log, without a queue. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { DirtyLog } from "../../core/dirty-log.ts";
import { ProtocolError } from "../../core/errors.ts";
import { createEventFd, createMemfd, Mapping, runtime } from "../../ffi/mod.ts";
import { signalled } from "../core/vring-harness.ts";
import { LogFile, pagesOf } from "./log-file.ts";
import { PAGES, shared } from "./marking-data.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";

describe("a dirty log", () => {
  test("has a bit for each page that a range touches", () => {
    using file = new LogFile(4096);
    using log = file.open(0, 4096);
    for (const [address, length] of [
      [0, 1],
      [4095, 1],
      [4095, 2],
      [4096, 4096],
      [8191, 4098],
      [7 * 4096, 4096 * 9],
      [4096 * 100 + 17, 123_456],
      [32_767 * 4096, 4096],
    ] as const) {
      log.mark(address, length);
      assert.deepEqual(file.take(), pagesOf(address, length), `${length} at ${address}`);
    }
    log.mark(12_345, 0);
    assert.deepEqual(file.take(), []);
  });

  test("keeps the bits that are set", () => {
    using file = new LogFile(64);
    using log = file.open(0, 64);
    file.bits[0] = 0x81;
    log.mark(3 * 4096, 1);
    log.mark(3 * 4096, 1);
    assert.deepEqual(file.take(), [0, 3, 7]);
  });

  test("M7 ends where its size says, and a mark beyond it changes nothing", () => {
    using file = new LogFile(100, 8192);
    using log = file.open(8192, 100);
    log.mark(800 * 4096, 4096);
    log.mark(Number.MAX_SAFE_INTEGER - 5, 4);
    log.mark(2 ** 53, 2 ** 32);
    assert.deepEqual(file.take(), []);
    log.mark(798 * 4096, 10 * 4096);
    const first = 8192 * 8;
    assert.deepEqual(file.take(), [first + 798, first + 799]);
    // More pages than a number of 32 bits counts.
    log.mark(2 ** 44, 4096);
    log.mark(2 ** 45 + 4096, 4096);
    assert.deepEqual(file.take(), []);
  });

  test("without a file takes marks and forgets them", () => {
    using log = new DirtyLog();
    log.mark(0, 2 ** 32);
    log.signal.send();
  });

  test("is replaced by the next one, and stays when that one is refused", () => {
    using first = new LogFile(64);
    using second = new LogFile(64, 4000);
    using log = first.open(0, 64);
    using event = createEventFd();
    for (const [fd, offset, size] of [
      [second.fd, 0, 0],
      [second.fd, 0, 2 ** 30 + 1],
      [second.fd, 8192, 1],
      [second.fd, 8161, 64],
      [second.fd, Number.MAX_SAFE_INTEGER, 64],
      [event, 0, 64],
    ] as const) {
      assert.throws(() => log.replace(fd, offset, size), ProtocolError, `${size} at ${offset}`);
      log.mark(4096, 1);
      assert.deepEqual(first.take(), [1]);
    }
    // A log need not begin on a page.
    log.replace(second.fd, 4000, 64);
    log.mark(0, 4096 * 512);
    assert.deepEqual(first.take(), []);
    assert.deepEqual(second.take(), pagesOf(4000 * 8 * 4096, 512 * 4096));
  });

  test("tells the front-end through the descriptor that it gave, until it is released", () => {
    using file = new LogFile(64);
    using event = createEventFd();
    using log = file.open(0, 64);
    log.signal.replace(event.duplicate());
    log.signal.send();
    assert.ok(signalled(event));
    log.release();
    log.signal.send();
    assert.ok(!signalled(event));
    log.mark(0, 4096);
    assert.deepEqual(file.take(), []);
  });

  /** Back-ends of several devices share one log, and the front-end takes bits meanwhile. */
  test("loses no mark to a front-end that takes them or to another back-end", async () => {
    const laps = full ? 40_000 : 2000;
    using file = new LogFile(PAGES / 8);
    using memfd = createMemfd("ringside-test-data", 4096);
    using mapping = new Mapping(memfd, 4096);
    const { written, seen, begun, ended } = shared(mapping);
    const script = fileURLToPath(new URL("marking-child.ts", import.meta.url));
    const words = runtime.name === "deno" ? ["run", "-A", "--no-check", "--no-lock"] : [];
    const exits = [0, 1].map((which) => {
      const env = {
        LOG: `/proc/${process.pid}/fd/${file.fd.number}`,
        DATA: `/proc/${process.pid}/fd/${memfd.number}`,
        WHICH: `${which}`,
        LAPS: `${laps}`,
      };
      const child = spawn(process.execPath, [...words, script], {
        stdio: "inherit",
        env: { ...process.env, ...env },
      });
      return new Promise((resolve) => child.on("close", resolve));
    });
    // The children are there once events ran.
    await new Promise((resolve) => setTimeout(resolve, 1));
    const bits = new Int32Array(file.bits.buffer, 0, PAGES / 32);
    const take = (at: number) => {
      const marks = Atomics.exchange(bits, at, 0);
      for (let bit = 0; bit < 32; bit++) {
        if (((marks >> bit) & 1) === 0) continue;
        const page = at * 32 + bit;
        Atomics.store(seen, page, Atomics.load(written, page));
      }
    };
    const limit = performance.now() + 100_000;
    while (Atomics.load(ended, 0) < 2 && performance.now() < limit) {
      for (let at = 0; at < bits.length; at++) take(at);
    }
    for (let at = 0; at < bits.length; at++) take(at);
    assert.deepEqual(await Promise.all(exits), [0, 0], "each mark was seen");
    assert.equal(begun[0], 2);
    assert.deepEqual(Array.from(seen), new Array(PAGES).fill(laps));
  });
});
