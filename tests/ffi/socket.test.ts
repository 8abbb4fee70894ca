/** Unix sockets: descriptors in messages, paths, and what `--fd` may be given. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import {
  accept,
  bytes,
  check,
  connectUnix,
  createEventFd,
  createMemfd,
  EADDRINUSE,
  ECONNREFUSED,
  ENOENT,
  F_GETFD,
  type Fd,
  libc,
  listenUnix,
  MessageBuffer,
  runtime,
  SCM_MAX_FD,
  SystemError,
  signal,
  socketKind,
  socketPair,
} from "../../ffi/mod.ts";
import { createPipe } from "./pipe.ts";

const FD_CLOEXEC = 1;
const RLIMIT_NOFILE = 7;

const C = runtime.bind("libc.so.6", {
  // int prlimit(pid_t process, int resource, const struct rlimit *new, struct rlimit *old)
  prlimit: { args: ["i32", "i32", "buffer", "buffer"], result: "i32" },
});

const folder = mkdtempSync(join(tmpdir(), "ringside-"));
after(() => rmSync(folder, { recursive: true }));

const openDescriptors = () => readdirSync("/proc/self/fd").length;

function closeAll(fds: readonly Fd[]): void {
  for (const fd of fds) fd.close();
}

/** Runs `body` while this process may open descriptors up to number `limit - 1` only. */
function withDescriptorLimit(limit: number, body: () => void): void {
  const old = new Uint32Array(new ArrayBuffer(16));
  check(C.prlimit(0, RLIMIT_NOFILE, null, old), "prlimit");
  const lowered = new Uint32Array(old.slice().buffer);
  lowered[0] = limit;
  check(C.prlimit(0, RLIMIT_NOFILE, lowered, null), "prlimit");
  try {
    body();
  } finally {
    check(C.prlimit(0, RLIMIT_NOFILE, old, null), "prlimit");
  }
}

describe("a message", () => {
  it("carries bytes and the most descriptors that the kernel allows", () => {
    const before = openDescriptors();
    const [left, right] = socketPair();
    const out = new MessageBuffer(16);
    const into = new MessageBuffer(16);
    const sent = Array.from({ length: SCM_MAX_FD }, () => createEventFd());
    signal(sent[252]!.number);
    out.data.set([1, 2, 3, 4]);
    const numbers = sent.map((fd) => fd.number);
    assert.equal(out.send(left, 0, 4, numbers), 4);
    assert.equal(into.receive(right, 8, 8), 4);
    assert.deepEqual([...into.data.subarray(8, 12)], [1, 2, 3, 4]);
    const received = [...into.received];
    assert.equal(received.length, 253);
    assert.equal(into.truncated, false);
    assert.equal(new Set(received.map((fd) => fd.number)).size, 253);
    for (const fd of received) assert.equal(libc.fcntl(fd.number, F_GETFD, 0), FD_CLOEXEC);
    const count = bytes(8);
    assert.equal(libc.read(received[252]!.number, count, 8), 8, "the last one was signalled");
    assert.equal(libc.read(received[251]!.number, count, 8), -1, "the one before was not");
    closeAll([...sent, ...received, left, right]);
    assert.equal(openDescriptors(), before);
  });

  it("brings its descriptors with the first byte, the rest of it without", () => {
    const [left, right] = socketPair();
    using memory = createMemfd("ringside-test", 4096);
    const out = new MessageBuffer(32);
    const into = new MessageBuffer(32);
    out.send(left, 0, 20, [memory.number]);
    assert.equal(into.receive(right, 0, 12), 12);
    assert.equal(into.received.length, 1);
    assert.equal(into.received[0]!.stat().size, 4096);
    closeAll(into.received);
    assert.equal(into.receive(right, 12, 20), 8);
    assert.equal(into.received.length, 0);
    assert.equal(into.receive(right, 0, 1), -1, "nothing is left");
    left.close();
    assert.equal(into.receive(right, 0, 1), 0, "end of file");
    right.close();
  });

  it("tells that descriptors were lost, and leaks none, when this process may open no more", () => {
    const before = openDescriptors();
    const [left, right] = socketPair();
    const out = new MessageBuffer(4);
    const into = new MessageBuffer(4);
    const sent = Array.from({ length: 40 }, () => createEventFd());
    const numbers = sent.map((fd) => fd.number);
    withDescriptorLimit(Math.max(...numbers) + 11, () => {
      assert.equal(out.send(left, 0, 4, numbers), 4);
      assert.equal(into.receive(right, 0, 4), 4);
    });
    assert.equal(into.truncated, true);
    assert.ok(into.received.length < 40, `${into.received.length} arrived`);
    closeAll([...into.received, ...sent, left, right]);
    assert.equal(openDescriptors(), before);
  });

  it("that does not fit the socket is reported, not waited for", () => {
    const [left, right] = socketPair();
    const out = new MessageBuffer(65536);
    let sent = 0;
    for (let got = 0; got >= 0; got = out.send(left, 0, 65536)) sent += got;
    assert.ok(sent >= 65536, `only ${sent} bytes fitted`);
    closeAll([left, right]);
  });

  it("to a closed socket is an error and not a signal", () => {
    const [left, right] = socketPair();
    right.close();
    assert.throws(() => new MessageBuffer(4).send(left, 0, 4), /EPIPE/);
    left.close();
  });
});

describe("a socket path", () => {
  it("serves one connection after another", () => {
    const path = join(folder, "serve");
    using listener = listenUnix(path);
    assert.equal(accept(listener), null);
    for (let i = 0; i < 3; i++) {
      using client = connectUnix(path);
      using server = accept(listener)!;
      assert.equal(socketKind(listener), "listening");
      assert.equal(socketKind(client), "connected");
      assert.equal(socketKind(server), "connected");
    }
  });

  it("fails with the call, the path and the reason", () => {
    const path = join(folder, "taken");
    const failure = (errno: number, syscall: string) => (error: unknown) => {
      assert.ok(error instanceof SystemError);
      assert.deepEqual([error.errno, error.syscall], [errno, syscall]);
      assert.ok(error.message.includes(path), error.message);
      return true;
    };
    assert.throws(() => connectUnix(path), failure(ENOENT, "connect"));
    const listener = listenUnix(path);
    assert.throws(() => listenUnix(path), failure(EADDRINUSE, "bind"));
    listener.close();
    assert.throws(() => connectUnix(path), failure(ECONNREFUSED, "connect"));
  });

  it("that is too long or empty is refused before the kernel cuts it", () => {
    assert.throws(() => listenUnix(join(folder, "x".repeat(108))), /more than 107 bytes/);
    assert.throws(() => connectUnix("ü".repeat(54)), /more than 107 bytes/);
    assert.throws(() => listenUnix(""), /empty/);
  });
});

describe("an inherited descriptor", () => {
  it("that is no unix stream socket is told apart", () => {
    using pipe = createPipe();
    using event = createEventFd();
    assert.equal(socketKind(pipe.reader), "not a unix stream socket");
    assert.equal(socketKind(event), "not a unix stream socket");
  });
});
