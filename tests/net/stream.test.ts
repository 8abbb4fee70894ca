/** The network device at a stream socket: lengths and frames, in pieces as it pleases the socket. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { accept, connectUnix, EAGAIN, errno, type Fd, libc, listenUnix } from "../../ffi/mod.ts";
import { NetDriver, sleep } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { launcher, Program, until } from "../support/program.ts";
import { makeFrame } from "./frames.ts";

function encode(frames: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const parts = frames.flatMap((frame) => {
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, frame.length);
    return [...length, ...frame];
  });
  return Uint8Array.from(parts);
}

/** Writes all of `data`, `piece` bytes at a time. */
function write(fd: Fd, data: Uint8Array<ArrayBuffer>, piece: number): void {
  for (let done = 0; done < data.length; ) {
    const part = data.slice(done, done + piece);
    const count = libc.write(fd.number, part, part.length);
    if (count > 0) done += count;
    else assert.equal(errno(), EAGAIN);
  }
}

/** Reads `length` bytes. */
function read(fd: Fd, length: number): Uint8Array {
  const all = new Uint8Array(length);
  const part = new Uint8Array(new ArrayBuffer(65_536));
  const end = performance.now() + 10_000;
  for (let done = 0; done < length; ) {
    assert.ok(performance.now() < end, `${done} of ${length} bytes came`);
    const count = libc.read(fd.number, part, Math.min(part.length, length - done));
    if (count > 0) {
      all.set(part.subarray(0, count), done);
      done += count;
    } else {
      assert.equal(count, -1, "the stream ended");
      sleep(1);
    }
  }
  return all;
}

/** Connects the program to a peer of the test's, both ways round. */
function open(folder: Folder, how: "listen" | "connect") {
  const path = folder.at("stream");
  const listener = how === "connect" ? listenUnix(path) : null;
  const option = how === "connect" ? "--stream" : "--stream-listen";
  const command = [launcher("vhost-user-net"), `${option}=${path}`, "--socket-path=SOCKET"];
  const program = new Program(command);
  const peer = listener === null ? connectUnix(path) : until(() => accept(listener), "a peer");
  peer.setNonBlocking();
  return {
    program,
    peer,
    listener,
    [Symbol.dispose](): void {
      listener?.close();
      peer.close();
      program[Symbol.dispose]();
    },
  };
}

for (const how of ["listen", "connect"] as const) {
  describe(`the network device that ${how}s on a stream`, () => {
    it("carries frames both ways, in pieces of any size", () => {
      using folder = new Folder();
      using opened = open(folder, how);
      const { program, peer } = opened;
      using driver = NetDriver.connect(program.socket);
      const frames = [14, 60, 1514, 9000, 65_553, 61].map((length, i) => makeFrame(length, i));
      for (const frame of frames) driver.pair.push(frame);
      driver.pair.tx.publish();
      const bytes = encode(frames);
      assert.deepEqual(read(peer, bytes.length), bytes);
      for (const piece of [1, 3, 1000, 100_000]) {
        write(peer, piece > 3 ? bytes : bytes.slice(0, 18 + 64), piece);
        const expected = piece > 3 ? frames : frames.slice(0, 2);
        for (const frame of expected) assert.deepEqual(driver.pair.receive()?.data, frame);
      }
    });

    it("makes the guest wait for a peer that does not read, and loses nothing", () => {
      using folder = new Folder();
      using opened = open(folder, how);
      const { program, peer } = opened;
      using driver = NetDriver.connect(program.socket);
      const frames: Uint8Array[] = [];
      for (let idle = 0; idle < 20; ) {
        const frame = makeFrame(9000, frames.length);
        if (driver.pair.push(frame)) frames.push(frame);
        else idle++;
        driver.pair.tx.publish();
        if (idle > 0) sleep(5);
      }
      assert.ok(frames.length < 500, `${frames.length} frames are under way`);
      const bytes = encode(frames);
      assert.deepEqual(read(peer, bytes.length), bytes);
      driver.pair.sent();
    });

    it("makes the peer wait for a guest without buffers", () => {
      using folder = new Folder();
      using opened = open(folder, how);
      const { program, peer } = opened;
      using driver = NetDriver.connect(program.socket, { buffers: 0, ringSize: 16 });
      const frames = Array.from({ length: 50 }, (_, i) => makeFrame(1000, i));
      write(peer, encode(frames), 100_000);
      assert.equal(driver.pair.receive(100), null);
      driver.pair.fill();
      for (const frame of frames) assert.deepEqual(driver.pair.receive()?.data, frame);
    });

    it("goes on with another peer, and ends what makes no sense", () => {
      using folder = new Folder();
      using opened = open(folder, how);
      const { program, peer, listener } = opened;
      using driver = NetDriver.connect(program.socket);
      write(peer, Uint8Array.of(0xff, 0xff, 0xff, 0xff, 1, 2, 3), 100);
      until(() => (program.log.includes("peer is gone") ? true : null), "the end of the stream");
      assert.equal(driver.config().status, 0);
      driver.pair.send(makeFrame(60));
      peer.close();
      using next =
        listener === null ? connectUnix(folder.at("stream")) : until(() => accept(listener), "it");
      next.setNonBlocking();
      until(() => (driver.config().status === 1 ? true : null), "a link");
      write(next, encode([makeFrame(77, 3)]), 100);
      assert.deepEqual(driver.pair.receive()?.data, makeFrame(77, 3));
    });
  });
}
