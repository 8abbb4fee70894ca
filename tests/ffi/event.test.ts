/** eventfd, epoll, memfd, owned descriptors and iovecs. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import {
  acknowledge,
  bytes,
  check,
  createEventFd,
  createMemfd,
  EPERM,
  EPOLLHUP,
  EPOLLIN,
  errno,
  F_ADD_SEALS,
  F_GET_SEALS,
  F_GETFD,
  F_SEAL_SHRINK,
  Iovecs,
  libc,
  O_CREAT,
  O_NONBLOCK,
  O_RDWR,
  openFile,
  Poller,
  S_IFIFO,
  S_IFREG,
  SystemError,
  signal,
} from "../../ffi/mod.ts";
import { createPipe } from "./pipe.ts";

const folder = mkdtempSync(join(tmpdir(), "ringside-"));
after(() => rmSync(folder, { recursive: true }));

describe("a signal", () => {
  it("through an eventfd adds up and is taken off at once", () => {
    using event = createEventFd();
    using poller = new Poller();
    poller.add(event.number, EPOLLIN, 7);
    assert.equal(poller.wait(0), 0);
    for (let i = 0; i < 3; i++) signal(event.number);
    assert.equal(poller.wait(0), 1);
    assert.equal(poller.token(0), 7);
    assert.equal(acknowledge(event.number), true);
    assert.equal(poller.wait(0), 0);
    assert.equal(acknowledge(event.number), true, "nothing pending is no error");
  });

  it("through a pipe works the same, until its writer is gone", () => {
    using pipe = createPipe(O_NONBLOCK);
    for (let i = 0; i < 100; i++) signal(pipe.writer.number);
    assert.equal(acknowledge(pipe.reader.number), true);
    assert.equal(acknowledge(pipe.reader.number), true);
    pipe.writer.close();
    assert.equal(acknowledge(pipe.reader.number), false);
  });

  it("to a full pipe or a closed descriptor does not block or throw", () => {
    using pipe = createPipe(O_NONBLOCK);
    for (let i = 0; i < 20_000; i++) signal(pipe.writer.number);
    signal(-1);
    assert.equal(acknowledge(-1), false);
  });
});

describe("a poller", () => {
  it("keeps each descriptor's token and events", () => {
    using poller = new Poller();
    using first = createEventFd();
    using pipe = createPipe();
    poller.add(first.number, EPOLLIN, 0xfffffffe);
    poller.add(pipe.reader.number, EPOLLIN, 3);
    pipe.writer.close();
    signal(first.number);
    const count = poller.wait(1_000);
    const seen = Array.from({ length: count }, (_, i) => [poller.token(i), poller.events(i)]);
    seen.sort(([a], [b]) => a! - b!);
    assert.deepEqual(seen, [
      [3, EPOLLHUP],
      [0xfffffffe, EPOLLIN],
    ]);
    poller.remove(pipe.reader.number);
    poller.modify(first.number, 0, 0xfffffffe);
    assert.equal(poller.wait(0), 0);
  });

  it("returns at most its capacity, and the rest next time", () => {
    using poller = new Poller(4);
    const events = Array.from({ length: 10 }, () => createEventFd());
    events.forEach((event, i) => {
      poller.add(event.number, EPOLLIN, i);
      signal(event.number);
    });
    const seen = new Set<number>();
    for (let round = 0; round < 10; round++) {
      const count = poller.wait(0);
      assert.ok(count <= 4);
      for (let i = 0; i < count; i++) {
        seen.add(poller.token(i));
        acknowledge(events[poller.token(i)]!.number);
      }
    }
    assert.equal(seen.size, 10);
    for (const event of events) event.close();
  });

  it("refuses a regular file with EPERM", () => {
    using poller = new Poller();
    using file = openFile(join(folder, "file"), O_RDWR | O_CREAT);
    assert.throws(
      () => poller.add(file.number, EPOLLIN, 1),
      (error) => error instanceof SystemError && error.errno === EPERM,
    );
  });
});

describe("a memfd", () => {
  it("sealed against shrinking by the one who received it stays whole", () => {
    using memory = createMemfd("ringside-test", 8192);
    check(libc.fcntl(memory.number, F_ADD_SEALS, F_SEAL_SHRINK), "fcntl(F_ADD_SEALS)");
    assert.equal(libc.fcntl(memory.number, F_GET_SEALS, 0) & F_SEAL_SHRINK, F_SEAL_SHRINK);
    assert.equal(libc.ftruncate(memory.number, 4096), -1);
    assert.equal(errno(), EPERM);
    assert.equal(memory.stat().size, 8192);
    assert.equal(libc.ftruncate(memory.number, 2 ** 33), 0, "growing is allowed");
    assert.equal(memory.stat().size, 2 ** 33);
  });
});

describe("a descriptor", () => {
  it("is close-on-exec, however it was made", () => {
    using file = openFile(join(folder, "cloexec"), O_RDWR | O_CREAT);
    using copy = file.duplicate();
    using memory = createMemfd("ringside-test", 1);
    using event = createEventFd();
    for (const fd of [file, copy, memory, event]) {
      assert.equal(libc.fcntl(fd.number, F_GETFD, 0), 1);
    }
  });

  it("closes once, and its number is not used again by mistake", () => {
    const file = openFile(join(folder, "once"), O_RDWR | O_CREAT);
    const number = file.number;
    file.close();
    using successor = openFile(join(folder, "once"), O_RDWR);
    assert.equal(successor.number, number, "the number is free again");
    file.close();
    assert.equal(file.number, -1);
    assert.equal(file.closed, true);
    assert.equal(successor.stat().size, 0, "still open");
  });

  it("tells its kind, size and flags", () => {
    using file = openFile(join(folder, "kind"), O_RDWR | O_CREAT);
    libc.ftruncate(file.number, 2 ** 40);
    const status = file.stat();
    assert.deepEqual([status.size, status.allocated], [2 ** 40, 0]);
    assert.equal(file.fileType(), S_IFREG);
    using pipe = createPipe();
    assert.equal(pipe.reader.fileType(), S_IFIFO);
    pipe.reader.setNonBlocking();
    assert.equal(pipe.reader.statusFlags() & O_NONBLOCK, O_NONBLOCK);
  });
});

describe("an iovec list", () => {
  it("splits addresses into halves, counts its bytes and says when it is full", () => {
    const list = new Iovecs(2);
    assert.equal(list.push(2 ** 46 + 0xffff_fff0, 32), true);
    assert.equal(list.push(100, 2 ** 31), true);
    assert.equal(list.push(200, 8), false, "full");
    assert.deepEqual([...list.words], [0xffff_fff0, 2 ** 14, 32, 0, 100, 0, 2 ** 31, 0]);
    assert.deepEqual([list.count, list.bytes], [2, 32 + 2 ** 31]);
    list.clear();
    assert.deepEqual([list.count, list.bytes], [0, 0]);
  });

  it("takes typed arrays by their address", () => {
    const list = new Iovecs(2);
    const [a, b] = [bytes(3).fill(1), bytes(5).fill(2)];
    list.pushView(a);
    list.pushView(b);
    using file = createMemfd("ringside-test", 16);
    assert.equal(libc.pwritev(file.number, list.words, list.count, 4), 8);
    const back = bytes(16);
    assert.equal(libc.read(file.number, back, 16), 16);
    assert.deepEqual([...back], [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0, 0, 0]);
  });
});
