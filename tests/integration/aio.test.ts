/**
 * Files by io_uring: with results that the kernel rarely gives, without io_uring, and with requests in
 * flight when rings, memory, connections and the program end. tests/tools/uring-shim.c gets between.
 */
import assert from "node:assert/strict";
import { truncateSync } from "node:fs";
import { describe, it } from "node:test";
import { mask, RingFeature } from "../../core/features.ts";
import {
  BlkDriver,
  type BlkQueue,
  BlkRequest,
  BlkStatus,
  ringFeatures,
} from "../../frontend/mod.ts";
import { BLOCK, drain, MIB, serveBlk, take, verifyDriver, verifySocket } from "../support/blk.ts";
import { Folder } from "../support/folder.ts";
import { openFiles } from "../support/process-status.ts";
import { launcher, Program } from "../support/program.ts";
import { buildTool, compilerMissing } from "../tools/build.ts";

const skip = compilerMissing() ?? false;

type Faults = Readonly<Record<string, string>>;

/** A disk of 4 MiB whose program runs on the library in between. */
function serve(folder: Folder, args: readonly string[], faults: Faults = {}): Program {
  const shim = buildTool("tests/tools/uring-shim.c", { shared: true });
  return serveBlk(folder.image(4 * MIB), args, {
    folder,
    env: { RINGSIDE_LIBC: shim, ...faults },
  });
}

const sectorOf = (block: number) => (block * BLOCK) / 512;

/** Fills a queue with requests of one block each. Returns how many there are. */
function fill(queue: BlkQueue, type: number): number {
  let count = 0;
  for (let slot = queue.acquire(); slot >= 0; slot = queue.acquire(), count++) {
    queue.submit(slot, type, sectorOf(count), BLOCK);
  }
  queue.publish();
  return count;
}

const packed = ringFeatures | mask(RingFeature.RING_PACKED);

describe("a file", { skip }, () => {
  for (const args of [["--aio=io_uring"], ["--aio=auto"], ["--aio=auto", "--direct"]]) {
    it(`keeps what is written with ${args.join(" ")}`, () => {
      using folder = new Folder();
      using program = serve(folder, args);
      verifySocket(program.socket);
      verifySocket(program.socket, { features: packed, framing: "scattered", pieceSize: 1000 });
      verifySocket(program.socket, { queues: 3, depth: 30 });
    });
  }

  it("is read by io_uring where it is not in memory", () => {
    using folder = new Folder();
    using program = serve(folder, [], { RINGSIDE_CACHE: "cold" });
    verifySocket(program.socket);
    verifySocket(program.socket, { framing: "scattered" });
  });

  for (const kind of ["again", "short"]) {
    it(`keeps what is written when results are: ${kind}`, () => {
      using folder = new Folder();
      using program = serve(folder, ["--aio=io_uring"], { RINGSIDE_URING: `${kind}/3` });
      verifySocket(program.socket);
      verifySocket(program.socket, { framing: "scattered", pieceSize: 512 });
    });
  }

  it("goes on by other means when the kernel never has the time", () => {
    using folder = new Folder();
    using program = serve(folder, ["--aio=io_uring"], { RINGSIDE_URING: "again/1" });
    verifySocket(program.socket);
  });

  it("fails the requests that fail, and no others", () => {
    using folder = new Folder();
    using program = serve(folder, ["--aio=io_uring"], { RINGSIDE_URING: "error/5" });
    using driver = BlkDriver.connect(program.socket, { depth: 20 });
    const queue = driver.queues[0]!;
    const statuses = new Map<number, number>();
    for (let round = 0; round < 5; round++) {
      fill(queue, BlkRequest.OUT);
      drain(queue, (slot) => {
        const status = queue.status(slot);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      });
    }
    assert.deepEqual([...statuses].sort(), [
      [BlkStatus.OK, 80],
      [BlkStatus.IOERR, 20],
    ]);
    assert.match(program.log, /A request failed \(.*errno=5/);
  });

  it("fails beyond its end when it was shortened", () => {
    using folder = new Folder();
    using program = serve(folder, ["--aio=io_uring"]);
    using driver = BlkDriver.connect(program.socket);
    truncateSync(folder.at("disk.img"), 2 * MIB + 512);
    assert.throws(() => driver.read(sectorOf(600), BLOCK), /status 1|IOERR/);
    assert.throws(() => driver.read(sectorOf(512), BLOCK), /status 1|IOERR/);
    driver.read(sectorOf(511), BLOCK);
  });

  it("is discarded and zeroed while the loop goes on", () => {
    using folder = new Folder();
    using program = serve(folder, ["--aio=auto"]);
    using driver = BlkDriver.connect(program.socket);
    driver.write(0, new Uint8Array(64 * 1024).fill(1));
    driver.write(256, new Uint8Array(64 * 1024).fill(2));
    driver.flush();
    driver.writeZeroes([{ sector: 8, sectors: 16 }]);
    driver.writeZeroes([{ sector: 32, sectors: 16 }], true);
    driver.discard([
      { sector: 64, sectors: 8 },
      { sector: 256, sectors: 64 },
    ]);
    const expected = new Uint8Array(64 * 1024).fill(1);
    for (const [sector, count] of [
      [8, 16],
      [32, 16],
      [64, 8],
    ] as const) {
      expected.fill(0, sector * 512, (sector + count) * 512);
    }
    assert.deepEqual(driver.read(0, 64 * 1024), expected);
    const rest = new Uint8Array(64 * 1024).fill(2).fill(0, 0, 64 * 512);
    assert.deepEqual(driver.read(256, 64 * 1024), rest);
  });
});

describe("without io_uring", { skip }, () => {
  const faults = { RINGSIDE_URING: "refuse" };

  it("a file is served all the same", () => {
    using folder = new Folder();
    for (const args of [[], ["--direct"]]) {
      using program = serve(folder, args, faults);
      verifySocket(program.socket);
      assert.match(program.log, /There is no io_uring: .*EPERM/);
    }
  });

  it("--aio=io_uring ends the program with one line", () => {
    using folder = new Folder();
    const shim = buildTool("tests/tools/uring-shim.c", { shared: true });
    const image = folder.image(MIB);
    const command = [
      launcher("vhost-user-blk"),
      "--socket-path=SOCKET",
      `--blk-file=${image}`,
      "--aio=io_uring",
    ];
    using program = new Program(command, {
      folder,
      socket: null,
      env: { RINGSIDE_LIBC: shim, ...faults },
    });
    assert.ok(program.ends(20_000));
    assert.match(program.log, /^vhost-user-blk: .*Cannot use --aio=io_uring: .*EPERM\)\n$/);
  });
});

describe("requests that the kernel has", { skip }, () => {
  const late = { RINGSIDE_URING: "late/2" };
  /** Milliseconds that late requests take, and some less. */
  const DELAY = 250;

  /** A driver with requests in flight, half of which end late. */
  function begin(program: Program) {
    const driver = BlkDriver.connect(program.socket, {
      depth: 16,
      maxBytes: BLOCK,
      inflight: true,
    });
    const queue = driver.queues[0]!;
    fill(queue, BlkRequest.OUT);
    while (queue.inFlight > 8) {
      assert.ok(queue.wait());
      take(queue);
    }
    return { driver, queue };
  }

  const timed = (action: () => void): number => {
    const start = performance.now();
    action();
    return performance.now() - start;
  };

  it("end before their ring stops", () => {
    using folder = new Folder();
    using program = serve(folder, ["--aio=io_uring"], late);
    const { driver, queue } = begin(program);
    using _ = driver;
    const open = queue.inFlight;
    assert.ok(timed(() => driver.frontend.stopVring(queue.vring)) > DELAY / 2);
    let ended = 0;
    take(queue, (slot) => {
      assert.equal(queue.status(slot), BlkStatus.OK);
      ended++;
    });
    assert.equal(ended, open);
  });

  it("end before their memory is taken away", () => {
    using folder = new Folder();
    using program = serve(folder, ["--aio=io_uring"], late);
    const { driver, queue } = begin(program);
    using _ = driver;
    const open = queue.inFlight;
    driver.frontend.replaceMemory();
    assert.equal(
      take(queue, (slot) => assert.equal(queue.status(slot), BlkStatus.OK)),
      open,
    );
  });

  it("end before another back-end may go on with them", () => {
    using folder = new Folder();
    using program = serve(folder, ["--aio=io_uring"], late);
    const { driver, queue } = begin(program);
    using _ = driver;
    const open = queue.inFlight;
    assert.ok(timed(() => driver.frontend.stopAtOnce()) < 5000);
    assert.equal(take(queue), open);
  });

  it("end before the next front-end is served, and before the program ends", () => {
    using folder = new Folder();
    using program = serve(folder, ["--aio=io_uring"], late);
    const connect = () => {
      using driver = BlkDriver.connect(program.socket);
      driver.flush();
      // The library in between keeps its timers.
      return [...openFiles(program.pid)].filter(([name]) => !name.includes("timerfd"));
    };
    const files = connect();
    for (let round = 0; round < 3; round++) {
      const { driver } = begin(program);
      driver[Symbol.dispose]();
    }
    assert.deepEqual(connect(), files);
    const { driver } = begin(program);
    using _ = driver;
    assert.ok(program.stop("SIGTERM"));
  });
});

describe("a slow flush", { skip }, () => {
  it("is answered after other queues' requests", () => {
    using folder = new Folder();
    using program = serve(folder, [], { RINGSIDE_SYNC_MS: "300" });
    using driver = BlkDriver.connect(program.socket, { queues: 2 });
    const [reads, flushes] = driver.queues as [BlkQueue, BlkQueue];
    flushes.submit(flushes.acquire(), BlkRequest.FLUSH, 0, 0);
    flushes.publish();
    for (let i = 0; i < 20; i++) {
      reads.submit(reads.acquire(), BlkRequest.IN, sectorOf(i), BLOCK);
      reads.publish();
      drain(reads);
      assert.equal(flushes.take(), -1, "the flush goes on");
    }
    drain(flushes, (slot) => assert.equal(flushes.status(slot), BlkStatus.OK));
    verifyDriver(driver, { mixed: 100 });
  });

  it("is shared by all that come while it lasts", () => {
    using folder = new Folder();
    using program = serve(folder, [], {
      RINGSIDE_SYNC_MS: "200",
      RINGSIDE_SYNC_COUNT: folder.at("count"),
    });
    using driver = BlkDriver.connect(program.socket, { queues: 2, depth: 20 });
    const start = performance.now();
    for (const queue of driver.queues) {
      for (let slot = queue.acquire(); slot >= 0; slot = queue.acquire()) {
        queue.submit(slot, BlkRequest.FLUSH, 0, 0);
      }
      queue.publish();
    }
    for (const queue of driver.queues) {
      drain(queue, (slot) => assert.equal(queue.status(slot), BlkStatus.OK));
    }
    assert.ok(performance.now() - start >= 390, "what came later is not covered by the first");
    const syncs = folder.read("count").length;
    assert.ok(syncs >= 2 && syncs <= 4, `${syncs} syncs for 40 flushes`);
  });

  it("of a driver without one is part of each write", () => {
    using folder = new Folder();
    using program = serve(folder, ["--cache=writethrough"], { RINGSIDE_SYNC_MS: "100" });
    using driver = BlkDriver.connect(program.socket, { queues: 2 });
    const [reads, writes] = driver.queues as [BlkQueue, BlkQueue];
    writes.submit(writes.acquire(), BlkRequest.OUT, 0, BLOCK);
    writes.publish();
    reads.submit(reads.acquire(), BlkRequest.IN, 64, BLOCK);
    reads.publish();
    drain(reads);
    assert.equal(writes.take(), -1, "the write is not durable yet");
    drain(writes, (slot) => assert.equal(writes.status(slot), BlkStatus.OK));
  });
});
