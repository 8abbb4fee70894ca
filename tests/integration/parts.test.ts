/** Optional parts of the protocol, with a program on one side and a front-end on the other. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { mask } from "../../core/features.ts";
import { ShmemMap, U64, Uuid, VringArea, VringState } from "../../core/payloads.ts";
import { frontEndMessages, ProtocolFeature } from "../../core/protocol.ts";
import {
  bytes,
  createMemfd,
  type Fd,
  libc,
  O_RDONLY,
  openFile,
  socketPair,
} from "../../ffi/mod.ts";
import {
  type BackEndRequest,
  BlkDriver,
  type BlkOptions,
  checkState,
  closeCryptoSession,
  createCryptoSession,
  Frontend,
  getSharedMemory,
  getSharedObject,
  protocolFeatures,
  sendRarp,
  setMtu,
  startStateTransfer,
} from "../../frontend/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { verifyDriver } from "../support/blk.ts";
import {
  Command,
  PAGE,
  REGIONS,
  SHARED_SIZE,
  SHARED_UUID,
  stateOf,
} from "../support/parts-disk.ts";
import { openFiles } from "../support/process-status.ts";
import { launcher, Program, until } from "../support/program.ts";

const device = fileURLToPath(new URL("../support/parts-disk.ts", import.meta.url));

const protocol =
  protocolFeatures |
  mask(
    ProtocolFeature.RARP,
    ProtocolFeature.NET_MTU,
    ProtocolFeature.CRYPTO_SESSION,
    ProtocolFeature.HOST_NOTIFIER,
    ProtocolFeature.SHARED_OBJECT,
    ProtocolFeature.DEVICE_STATE,
    ProtocolFeature.SHMEM,
  );
const inBandProtocol = protocol | mask(ProtocolFeature.INBAND_NOTIFICATIONS);

const uuid = Uint8Array.from(SHARED_UUID.replaceAll("-", "").match(/../g)!, (byte) =>
  Number.parseInt(byte, 16),
);

function start(args: readonly string[] = []): Program {
  return new Program([launcher("ringside"), device, "--socket-path=SOCKET", ...args]);
}

describe("the optional parts of the protocol", () => {
  let program: Program;
  before(() => {
    program = start(["--state-size=5000000"]);
  });
  after(() => program[Symbol.dispose]());

  const open = (options: BlkOptions = {}) =>
    Frontend.open(program.socket, { protocol, ...options });
  /** Lines of the log that have come since `from`. */
  const logged = (text: string, from = 0) =>
    until(() => (program.log.indexOf(text, from) >= 0 ? true : null), `"${text}" in the log`);
  /** Has the device do something. Returns the place in the log where that begins. */
  const command = (frontend: Frontend, code: number): number => {
    const from = program.log.length;
    sendRarp(frontend.connection, Uint8Array.of(2, 0, 0, 0, 0, code));
    return from;
  };

  it("tell the device of its MTU, and refuse one that cannot be", () => {
    using frontend = open();
    setMtu(frontend.connection, 9000);
    logged("MTU set (bytes=9000)");
    for (const bytes of [0, 67, 65536]) {
      assert.throws(() => setMtu(frontend.connection, bytes), { fault: "refused" });
    }
  });

  it("open and close crypto sessions", () => {
    using frontend = open();
    const { connection } = frontend;
    const first = createCryptoSession(connection, 0x002, new Uint8Array(1056));
    const second = createCryptoSession(connection, 0x404, new Uint8Array(1056));
    assert.notEqual(first, second);
    closeCryptoSession(connection, first);
    assert.throws(() => closeCryptoSession(connection, first), { fault: "refused" });
    assert.throws(() => createCryptoSession(connection, 1, new Uint8Array(1056)), {
      fault: "refused",
    });
  });

  it("share an object with the front-end that is there and with the next one", () => {
    const requests: string[] = [];
    const answer = ({ row, payload }: BackEndRequest) => {
      if (row.name.startsWith("SHARED_OBJECT")) requests.push(`${row.name} ${payload.join()}`);
      return 0n;
    };
    {
      using frontend = open({ answer });
      assert.equal(getSharedObject(frontend.connection, uuid), null);
      command(frontend, Command.SHARE);
      frontend.requests.expect("SHARED_OBJECT_ADD");
      using object = getSharedObject(frontend.connection, uuid);
      assert.equal(object?.stat().size, SHARED_SIZE);
      assert.equal(getSharedObject(frontend.connection, new Uint8Array(16)), null);
    }
    {
      using frontend = open({ answer });
      frontend.requests.expect("SHARED_OBJECT_ADD");
      command(frontend, Command.UNSHARE);
      frontend.requests.expect("SHARED_OBJECT_REMOVE");
      assert.equal(getSharedObject(frontend.connection, uuid), null);
    }
    const key = uuid.join();
    assert.deepEqual(requests, [
      `SHARED_OBJECT_ADD ${key}`,
      `SHARED_OBJECT_ADD ${key}`,
      `SHARED_OBJECT_REMOVE ${key}`,
    ]);
  });

  it("look up an object of another device", () => {
    using object = createMemfd("looked-up", 12345);
    const answers: (bigint | { value: bigint; fd: Fd })[] = [{ value: 0n, fd: object }, 1n];
    using frontend = open({ answer: () => answers.shift() ?? 0n });
    for (const outcome of ["12345 bytes", "nothing"]) {
      const from = command(frontend, Command.LOOKUP);
      const { payload } = frontend.requests.expect("SHARED_OBJECT_LOOKUP");
      assert.deepEqual(Uuid.decode(payload).uuid, uuid);
      logged(`Command ${Command.LOOKUP}: ${outcome}`, from);
    }
  });

  it("map and unmap shared memory, whose regions the device declares", () => {
    const answers = [0n, 0n, 7n];
    using frontend = open({ answer: () => answers.shift() ?? 0n });
    const sizes = getSharedMemory(frontend.connection);
    assert.deepEqual(sizes.slice(0, 3), [...REGIONS]);
    assert.ok(sizes.slice(3).every((size) => size === 0));
    const page = BigInt(PAGE);
    for (const [code, name, fdOffset, flags, outcome] of [
      [Command.MAP, "SHMEM_MAP", page, 1n, "done"],
      [Command.UNMAP, "SHMEM_UNMAP", 0n, 0n, "done"],
      [Command.UNMAP, "SHMEM_UNMAP", 0n, 0n, "The front-end refused SHMEM_UNMAP: it answered 7"],
    ] as const) {
      const from = command(frontend, code);
      const { payload, fds } = frontend.requests.expect(name);
      const { padding: _, ...mapping } = ShmemMap.decode(payload);
      assert.deepEqual(mapping, { region: 2, fdOffset, regionOffset: page, length: page, flags });
      assert.equal(fds.length, name === "SHMEM_MAP" ? 1 : 0);
      for (const fd of fds) {
        assert.equal(fd.stat().size, SHARED_SIZE);
        fd.close();
      }
      logged(`Command ${code}: ${outcome}`, from);
    }
    const from = command(frontend, Command.MAP_TOO_MUCH);
    logged(`Command ${Command.MAP_TOO_MUCH}: Cannot map 4096 bytes at 4096`, from);
  });

  it("set and clear a host notifier", () => {
    using frontend = open();
    const expect = (code: number, index: bigint, size: bigint, count: number) => {
      const from = command(frontend, code);
      const { payload, fds } = frontend.requests.expect("VRING_HOST_NOTIFIER_MSG");
      assert.deepEqual(VringArea.decode(payload), { index, size, offset: 0n });
      assert.equal(fds.length, count);
      for (const fd of fds) fd.close();
      logged(`Command ${code}: done`, from);
    };
    expect(Command.NOTIFIER, 1n, BigInt(PAGE), 1);
    expect(Command.NO_NOTIFIER, 0x101n, 0n, 0);
  });

  it("reject what a front-end does not take part in", () => {
    using frontend = open({ protocol: protocolFeatures | mask(ProtocolFeature.RARP) });
    for (const code of [Command.LOOKUP, Command.MAP, Command.NOTIFIER]) {
      const from = command(frontend, code);
      logged(`Command ${code}: Cannot send `, from);
    }
  });

  it("serve the main socket while requests of the back-end wait for their answers", () => {
    using frontend = open({ answer: () => null });
    const from = command(frontend, Command.MANY);
    using driver = new BlkDriver(frontend);
    const begin = performance.now();
    verifyDriver(driver, { blocks: 64, mixed: 200 });
    assert.ok(performance.now() - begin < 4_000, "nothing waited for the time-out");
    logged(`Command ${Command.MANY}: 0 of 500`, from);
    assert.match(program.log.slice(from), /did not answer SHMEM_UNMAP within 5000 ms/);
    verifyDriver(driver, { blocks: 16, mixed: 50 });
  });

  it("pass no in-band notification on where descriptors are given", () => {
    const seen: string[] = [];
    const answer = ({ row }: BackEndRequest) => {
      seen.push(row.name);
      return 0n;
    };
    using driver = BlkDriver.connect(program.socket, { protocol: inBandProtocol, answer });
    verifyDriver(driver, { blocks: 64, mixed: 100 });
    driver.frontend.requests.serve();
    assert.deepEqual(seen, []);
  });

  it("kick and call in band, whether the front-end reads its calls or not", () => {
    const calls: number[] = [];
    const answer = ({ row, payload }: BackEndRequest) => {
      assert.equal(row.name, "VRING_CALL");
      calls.push(VringState.decode(payload).index);
      return 0n;
    };
    const options = { protocol: inBandProtocol, answer, queues: 2, vring: { inBand: true } };
    using driver = BlkDriver.connect(program.socket, options);
    const files = openFiles(program.pid).get("anon_inode:[eventfd]");
    verifyDriver(driver, { blocks: 256, mixed: 2000 });
    driver.frontend.requests.serve();
    assert.ok(calls.includes(0) && calls.includes(1), "both vrings are called");
    // From here on nobody reads them.
    const { connection, requests } = driver.frontend;
    connection.side = null;
    verifyDriver(driver, { blocks: 256, mixed: 5000 });
    const before = calls.length;
    requests.serve();
    assert.ok(calls.length - before < 2000, `${calls.length - before} calls piled up`);
    assert.equal(openFiles(program.pid).get("anon_inode:[eventfd]"), files, "no descriptor came");
    // A descriptor wins, though kicks may go on in band.
    connection.side = requests;
    const { vring } = driver.queues[0]!;
    calls.length = 0;
    connection.command(frontEndMessages.SET_VRING_CALL, U64.encode({ value: 0n }), [
      vring.call.writer,
    ]);
    verifyDriver(driver, { blocks: 16, mixed: 50 });
    requests.serve();
    assert.ok(!calls.includes(0), "the first vring is called by its descriptor");
    assert.ok(vring.call.take(0));
  });

  it("tell of a broken ring in band", () => {
    const options = { protocol: inBandProtocol, vring: { inBand: true } };
    using driver = BlkDriver.connect(program.socket, options);
    const { vring } = driver.queues[0]!;
    vring.ring.offer(vring.ring.size + 1);
    vring.publish();
    const { payload } = driver.frontend.requests.expect("VRING_ERR");
    assert.equal(VringState.decode(payload).index, 0);
  });
});

/** Reads until the other side closes its end. */
function readAll(fd: Fd): Uint8Array {
  const pieces: Uint8Array[] = [];
  const buffer = bytes(1 << 16);
  for (;;) {
    const count = libc.read(fd.number, buffer, buffer.length);
    assert.ok(count >= 0, "the state can be read");
    if (count === 0) return Buffer.concat(pieces);
    pieces.push(buffer.slice(0, count));
  }
}

function writeAll(fd: Fd, data: Uint8Array): void {
  const buffer = bytes(data.length);
  buffer.set(data);
  for (let at = 0; at < data.length; ) {
    const count = libc.write(fd.number, buffer.subarray(at), data.length - at);
    assert.ok(count > 0, "the state can be written");
    at += count;
  }
}

const ACCEPTED = 0x100n;

for (const [pace, args] of [
  ["at once", []],
  ["by promises", ["--slow"]],
] as const) {
  describe(`device state that is given and taken ${pace}`, () => {
    const size = 5_000_000;
    let program: Program;
    before(() => {
      program = start([`--state-size=${size}`, ...args]);
    });
    after(() => program[Symbol.dispose]());

    const streams = {
      "a pipe": () => createPipe(),
      "a socket": () => {
        const [reader, writer] = socketPair();
        return { reader, writer };
      },
    };
    for (const [name, make] of Object.entries(streams)) {
      it(`moves through ${name}`, () => {
        using frontend = Frontend.open(program.socket, { protocol });
        const { connection } = frontend;
        const out = make();
        assert.equal(startStateTransfer(connection, "save", out.writer), ACCEPTED);
        out.writer.close();
        // The back-end goes on answering meanwhile.
        frontend.getStatus();
        const state = readAll(out.reader);
        assert.equal(checkState(connection), 0n);
        out.reader.close();
        assert.deepEqual(Buffer.compare(state, stateOf(size)), 0);

        const into = make();
        assert.equal(startStateTransfer(connection, "load", into.reader), ACCEPTED);
        into.reader.close();
        frontend.getStatus();
        writeAll(into.writer, state);
        into.writer.close();
        assert.equal(checkState(connection), 0n);
        assert.match(program.log, /State loaded \(bytes=5000000\)/);
      });
    }

    it("moves through a file, from its offset on", () => {
      using frontend = Frontend.open(program.socket, { protocol });
      const { connection } = frontend;
      using file = createMemfd("state", 0);
      writeAll(file, Uint8Array.of(1, 2, 3));
      assert.equal(startStateTransfer(connection, "save", file), ACCEPTED);
      assert.equal(checkState(connection), 0n);
      assert.equal(file.stat().size, size + 3);
      using again = openFile(`/proc/self/fd/${file.number}`, O_RDONLY);
      libc.read(again.number, bytes(3), 3);
      assert.equal(startStateTransfer(connection, "load", again), ACCEPTED);
      assert.equal(checkState(connection), 0n);
    });

    it("is refused while rings run, and moves between two uses of them", () => {
      using driver = BlkDriver.connect(program.socket, { protocol });
      const { connection } = driver.frontend;
      using file = createMemfd("state", 0);
      assert.equal(startStateTransfer(connection, "save", file), 0x101n);
      const bases = driver.frontend.vrings.map((vring) => vring.stop(connection));
      assert.equal(startStateTransfer(connection, "save", file), ACCEPTED);
      assert.equal(checkState(connection), 0n);
      driver.frontend.startVrings(driver.frontend.vrings, bases);
      verifyDriver(driver, { blocks: 16, mixed: 50 });
    });

    it("is given up with the connection, and leaves nothing behind", () => {
      const files = () => [...openFiles(program.pid)].filter(([name]) => name.startsWith("pipe"));
      const before = files();
      const pipe = createPipe();
      {
        using frontend = Frontend.open(program.socket, { protocol });
        startStateTransfer(frontend.connection, "save", pipe.writer);
        pipe.writer.close();
      }
      using frontend = Frontend.open(program.socket, { protocol });
      frontend.getStatus();
      assert.deepEqual(files(), before);
      pipe.reader.close();
    });
  });
}
