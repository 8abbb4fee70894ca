/** Rings that stop and go on, connections that end at any point, back-ends that die and come back. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { U64 } from "../../core/payloads.ts";
import { DeviceStatus, frontEndMessages, ProtocolFeature } from "../../core/protocol.ts";
import {
  BlkDriver,
  type BlkQueue,
  BlkRequest,
  BlkStatus,
  Connection,
  Journal,
} from "../../frontend/mod.ts";
import {
  BLOCK,
  blank,
  compare,
  drain,
  MIB,
  serveBlk,
  take,
  verifyDriver,
  verifySocket,
} from "../support/blk.ts";
import { Folder } from "../support/folder.ts";
import { mappingsOf, openFiles } from "../support/process-status.ts";
import { type Program, until } from "../support/program.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const GUEST = "/memfd:ringside-guest";
const BLOCKS = 256;
/** A sector that no block of a `Writer` has. */
const BEYOND = (BLOCKS * BLOCK) / 512;

/** Writes blocks and remembers what is in flight. */
class Writer {
  readonly journal = new Journal(BLOCK, BLOCKS);
  readonly #queue: BlkQueue;
  readonly #blocks = new Map<number, number>();
  #count = 0;

  /** Makes the disk zeros first. */
  constructor(driver: BlkDriver, queue: BlkQueue = driver.queues[0]!) {
    blank(driver);
    this.#queue = queue;
  }

  /** Submits as many writes as there are slots, and shows `shown` of them. */
  submit(count = Number.POSITIVE_INFINITY): number {
    let submitted = 0;
    for (; submitted < count; submitted++) {
      const slot = this.#queue.acquire();
      if (slot < 0) break;
      const block = this.journal.take((this.#count++ * 13) % BLOCKS);
      this.journal.write(block, this.#queue.words(slot));
      this.#blocks.set(slot, block);
      this.#queue.submit(slot, BlkRequest.OUT, (block * BLOCK) / 512, BLOCK);
    }
    this.#queue.publish();
    return submitted;
  }

  readonly done = (slot: number): void => {
    assert.equal(this.#queue.status(slot), BlkStatus.OK);
    this.journal.done(this.#blocks.get(slot)!);
  };
}

describe("a ring", () => {
  let program: Program;
  before(() => {
    program = serveBlk("ram:8M");
  });
  after(() => program[Symbol.dispose]());

  it("is drained when it stops, and goes on from where it was", () => {
    using driver = BlkDriver.connect(program.socket, { queues: 2 });
    const { frontend, queues } = driver;
    const [queue, other] = queues as [BlkQueue, BlkQueue];
    const writer = new Writer(driver);
    for (let round = 0; round < 50; round++) {
      const before = queue.vring.ring.usedIndex;
      const submitted = writer.submit();
      const base = frontend.stopVring(queue.vring);
      const done = take(queue, writer.done);
      assert.equal(base, (before + done) & 0xffff, "all that was taken is completed");
      assert.equal(take(queue), 0);
      frontend.startVrings([queue.vring], [base]);
      drain(queue, writer.done);
      assert.equal((queue.vring.ring.usedIndex - before) & 0xffff, submitted);
      assert.equal(other.inFlight, 0);
    }
    compare(driver, writer.journal);
  });

  it("takes nothing while it is disabled", () => {
    using driver = BlkDriver.connect(program.socket);
    const { frontend, queues } = driver;
    const [queue] = queues as [BlkQueue];
    const { connection } = frontend;
    const writer = new Writer(driver);
    queue.vring.enable(connection, false);
    writer.submit();
    frontend.barrier();
    assert.equal(queue.wait(30), false);
    queue.vring.enable(connection, true);
    drain(queue, writer.done);
    compare(driver, writer.journal);
  });

  it("keeps its completions while its call descriptor is replaced", () => {
    using driver = BlkDriver.connect(program.socket);
    const { frontend, queues } = driver;
    const [queue] = queues as [BlkQueue];
    const files = openFiles(program.pid);
    const writer = new Writer(driver);
    for (let round = 0; round < 300; round++) {
      writer.submit(4);
      queue.vring.setCall(frontend.connection);
      queue.vring.setKick(frontend.connection);
      drain(queue, writer.done);
    }
    compare(driver, writer.journal);
    assert.deepEqual(openFiles(program.pid), files);
  });

  it("is scanned when it starts, without a kick", () => {
    using driver = BlkDriver.connect(program.socket);
    const { frontend, queues } = driver;
    const [queue] = queues as [BlkQueue];
    const writer = new Writer(driver);
    const base = frontend.stopVring(queue.vring);
    writer.submit();
    queue.vring.kick.take();
    frontend.startVrings([queue.vring], [base]);
    drain(queue, writer.done);
    compare(driver, writer.journal);
  });

  it("may be set up anew with another size on the same connection", () => {
    using driver = BlkDriver.connect(program.socket, { ringSize: 16, maxBytes: BLOCK });
    const { frontend } = driver;
    frontend.stop();
    for (const vring of frontend.vrings.splice(0)) vring[Symbol.dispose]();
    using anew = new BlkDriver(frontend, { ringSize: 256, maxBytes: BLOCK, queues: 4 });
    verifyDriver(anew);
  });

  it("stops with the device's status, and the device keeps what it stores", () => {
    using driver = BlkDriver.connect(program.socket);
    const { frontend, queues } = driver;
    const [queue] = queues as [BlkQueue];
    assert.ok(frontend.hasProtocol(ProtocolFeature.STATUS));
    assert.ok((frontend.getStatus() & DeviceStatus.DRIVER_OK) !== 0);
    const writer = new Writer(driver);
    const data = new Uint8Array(512).fill(9);
    driver.write(BEYOND, data);
    frontend.setStatus(0);
    assert.equal(frontend.getStatus(), 0);
    writer.submit(1);
    assert.equal(queue.wait(30), false, "a stopped ring takes nothing");
    const base = queue.vring.stop(frontend.connection);
    frontend.startVrings([queue.vring], [base]);
    drain(queue, writer.done);
    assert.deepEqual(driver.read(BEYOND, 512), data);
  });

  it("stops with RESET_DEVICE, after what is in flight is completed", () => {
    using driver = BlkDriver.connect(program.socket);
    const { frontend, queues } = driver;
    const [queue] = queues as [BlkQueue];
    const writer = new Writer(driver);
    writer.submit();
    frontend.resetDevice();
    assert.equal(frontend.getStatus(), 0);
    const done = take(queue, writer.done);
    const left = queue.inFlight;
    assert.equal(queue.wait(30), false, `${done} are completed, ${left} never taken`);
    const base = queue.vring.stop(frontend.connection);
    assert.equal(base, queue.vring.ring.usedIndex);
    frontend.startVrings([queue.vring], [base]);
    drain(queue, writer.done);
    compare(driver, writer.journal);
  });
});

describe("a connection", () => {
  let program: Program;
  before(() => {
    program = serveBlk("ram:8M");
  });
  after(() => program[Symbol.dispose]());

  /** Nothing of a connection is left in the back-end. */
  function assertReleased(files: Map<string, number>): void {
    until(() => {
      const same = JSON.stringify([...openFiles(program.pid)].sort());
      return same === JSON.stringify([...files].sort()) ? true : null;
    }, "closing all descriptors");
    assert.equal(mappingsOf(program.pid, GUEST), 0);
  }

  /** Connects and drops the connection before message `count`. False when there were not as many. */
  function cutBefore(count: number, whole: boolean): boolean {
    const connection = Connection.connect(program.socket);
    let left = count;
    connection.beforeSend = () => {
      if (left-- === 0) throw new Error("cut");
    };
    try {
      using driver = BlkDriver.connect(connection, { queues: 2 });
      if (whole) driver.frontend.stop();
      return false;
    } catch (error) {
      assert.equal((error as Error).message, "cut");
      return true;
    }
  }

  it("may end before any of its messages", () => {
    verifySocket(program.socket);
    const files = openFilesAtRest();
    let count = 0;
    while (cutBefore(count, true)) count++;
    assert.ok(count > 25, `${count} messages`);
    verifySocket(program.socket);
    assertReleased(files);
  });

  function openFilesAtRest(): Map<string, number> {
    until(() => (mappingsOf(program.pid, GUEST) === 0 ? true : null), "the end of the session");
    let files = openFiles(program.pid);
    until(() => {
      const now = openFiles(program.pid);
      const same = JSON.stringify([...files]) === JSON.stringify([...now]);
      files = now;
      return same ? true : null;
    }, "rest");
    return files;
  }

  it("may end within a message, wherever it is cut", () => {
    const files = openFilesAtRest();
    const message = new Uint8Array(20);
    const view = new DataView(message.buffer);
    view.setUint32(0, frontEndMessages.SET_FEATURES.code, true);
    view.setUint32(4, 1, true);
    view.setUint32(8, 8, true);
    for (let length = 1; length < message.length; length++) {
      using connection = Connection.connect(program.socket);
      connection.sendRaw(message.subarray(0, length));
    }
    assertReleased(files);
    verifySocket(program.socket);
  });

  it("may end while requests are in flight", () => {
    const files = openFilesAtRest();
    for (let round = 0; round < (full ? 500 : 30); round++) {
      using driver = BlkDriver.connect(program.socket, { queues: 2 });
      const writers = driver.queues.map((queue) => new Writer(driver, queue));
      for (const writer of writers) writer.submit(1 + (round % 32));
      if (round % 3 === 0) take(driver.queues[0]!);
    }
    assertReleased(files);
    verifySocket(program.socket, { queues: 2 });
  });

  it("goes on after it was lost: what was in flight is carried out then", () => {
    using driver = BlkDriver.connect(program.socket, { queues: 2 });
    const { frontend, queues } = driver;
    const [queue, other] = queues as [BlkQueue, BlkQueue];
    const writer = new Writer(driver);
    for (let round = 0; round < (full ? 300 : 20); round++) {
      // Not published: they wait for the next back-end in any case.
      writer.submit(1 + (round % 20));
      frontend.disconnect();
      take(queue, writer.done);
      frontend.reconnect();
      drain(queue, writer.done);
      assert.equal(other.inFlight, 0);
    }
    compare(driver, writer.journal);
  });

  it("waits for its turn while another one is served", () => {
    using driver = BlkDriver.connect(program.socket);
    using waiting = Connection.connect(program.socket);
    waiting.send(frontEndMessages.GET_FEATURES);
    assert.equal(waiting.receiveRaw(1, 30), null);
    verifyDriver(driver);
    driver.frontend.disconnect();
    const { payload } = waiting.reply(frontEndMessages.GET_FEATURES);
    assert.equal(U64.decode(payload).value, driver.frontend.agreed.offered);
  });
});

describe("a back-end", () => {
  it("that was killed is replaced, and the driver goes on with the same file", () => {
    using folder = new Folder();
    const image = folder.image(MIB);
    let program = serveBlk(image, [], { folder });
    try {
      using driver = BlkDriver.connect(program.socket, { timeout: 20_000 });
      const [queue] = driver.queues as [BlkQueue];
      const writer = new Writer(driver);
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 20; i++) {
          writer.submit();
          assert.ok(queue.wait());
          take(queue, writer.done);
        }
        writer.submit();
        program.stop("SIGKILL");
        take(queue, writer.done);
        // Its socket is still there, and refuses connections.
        program = serveBlk(image, [], { folder });
        driver.frontend.reconnect();
        drain(queue, writer.done);
      }
      compare(driver, writer.journal);
      driver.flush();
    } finally {
      program[Symbol.dispose]();
    }
  });

  it("that is asked to end finishes, and takes its socket away", async () => {
    using folder = new Folder();
    using program = serveBlk(folder.image(MIB), [], { folder });
    using driver = BlkDriver.connect(program.socket);
    const journal = verifyDriver(driver);
    assert.ok(program.stop("SIGTERM"), program.log);
    assert.deepEqual(await program.exit, { code: 0, signal: null });
    assert.equal(driver.frontend.connection.endsWithin(1000), true);
    using again = serveBlk(folder.at("disk.img"), [], { folder });
    using next = BlkDriver.connect(again.socket);
    compare(next, journal);
  });
});
