/** Which descriptors may notify and be notified, and that notifying never blocks. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { ProtocolError } from "../../core/errors.ts";
import { checkKick } from "../../core/kick.ts";
import { Notifier } from "../../core/notifier.ts";
import {
  bytes,
  createEventFd,
  Fd,
  libc,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  openFile,
  socketPair,
} from "../../ffi/mod.ts";
import { createPipe } from "../ffi/pipe.ts";

function pipe(): [reader: Fd, writer: Fd] {
  const { reader, writer } = createPipe();
  return [reader, writer];
}

/** An eventfd whose reads and writes block. */
const blockingEventFd = (initial = 0) => new Fd(libc.eventfd(initial, 0));

/** The counter of an eventfd, which must not be 0. */
function counter(fd: Fd): bigint {
  const value = bytes(8);
  assert.equal(libc.read(fd.number, value, 8), 8);
  return new BigUint64Array(value.buffer)[0]!;
}

const folder = mkdtempSync(join(tmpdir(), "ringside-kick-"));
const regular = join(folder, "regular");
writeFileSync(regular, "text");
after(() => rmSync(folder, { recursive: true }));

/** Descriptors that notify nobody. */
const files: readonly (readonly [name: string, open: () => Fd])[] = [
  ["a regular file", () => openFile(regular, O_RDWR)],
  ["a directory", () => openFile(folder, O_RDONLY)],
  ["/dev/zero", () => openFile("/dev/zero", O_RDWR)],
  ["/dev/null", () => openFile("/dev/null", O_RDWR)],
];

const refused = (reason: RegExp) => (error: unknown) =>
  error instanceof ProtocolError && reason.test(error.message);

describe("checkKick()", () => {
  for (const [name, open] of files) {
    test(`refuses ${name}`, () => {
      using fd = open();
      assert.throws(() => checkKick(fd), refused(/kick descriptor: it is neither/));
      assert.equal(fd.closed, false, "it stays the caller's");
    });
  }

  test("refuses the end of a pipe that is for writing", () => {
    const [reader, writer] = pipe();
    assert.throws(() => checkKick(writer), refused(/writing only/));
    reader.close();
    writer.close();
  });

  test("accepts eventfds, pipes and sockets", () => {
    const [reader, writer] = pipe();
    const [one, other] = socketPair();
    for (const fd of [blockingEventFd(), createEventFd(), reader, one]) {
      checkKick(fd);
      fd.close();
    }
    for (const fd of [writer, other]) fd.close();
  });
});

describe("Notifier", () => {
  for (const [name, open] of files) {
    test(`refuses ${name} and keeps the descriptor it has`, () => {
      const notifier = new Notifier("call");
      const event = blockingEventFd();
      notifier.replace(event);
      using fd = open();
      assert.throws(() => notifier.replace(fd), refused(/call descriptor: it is neither/));
      notifier.send();
      assert.equal(counter(event), 1n);
      notifier.replace(null);
    });
  }

  test("refuses the end of a pipe that is for reading", () => {
    const [reader, writer] = pipe();
    const notifier = new Notifier("err");
    assert.throws(() => notifier.replace(reader), refused(/err descriptor: .* reading only/));
    reader.close();
    writer.close();
  });

  test("signals eventfds, pipes and sockets once per send()", () => {
    const notifier = new Notifier("call");
    const event = blockingEventFd();
    const watched = event.duplicate();
    notifier.replace(event);
    notifier.send();
    notifier.send();
    assert.equal(counter(watched), 2n);
    watched.close();
    for (const [reader, writer] of [pipe(), socketPair()]) {
      notifier.replace(writer);
      notifier.send();
      assert.equal(libc.read(reader.number, bytes(64), 64), 8);
      reader.close();
    }
    notifier.replace(null);
  });

  test("closes what it is given, when something else comes and at the end", () => {
    const notifier = new Notifier("call");
    const [first, second] = [createEventFd(), createEventFd()];
    notifier.replace(first);
    assert.equal(first.closed, false);
    notifier.replace(second);
    assert.deepEqual([first.closed, second.closed], [true, false]);
    notifier.replace(null);
    assert.equal(second.closed, true);
    notifier.send();
  });

  test("leaves the flags of the descriptor as the front-end set them", () => {
    const notifier = new Notifier("call");
    const event = blockingEventFd();
    notifier.replace(event);
    notifier.send();
    assert.equal(event.statusFlags() & O_NONBLOCK, 0);
    notifier.replace(null);
  });

  // A notifier that blocks would hang these tests until their time limit.

  test("does not block on a full eventfd, blocking or not", () => {
    const notifier = new Notifier("call");
    for (const make of [() => blockingEventFd(1), () => new Fd(libc.eventfd(1, O_NONBLOCK))]) {
      const event = make();
      const most = bytes(8);
      new BigUint64Array(most.buffer)[0] = 2n ** 64n - 3n;
      assert.equal(libc.write(event.number, most, 8), 8);
      notifier.replace(event);
      notifier.send();
      notifier.send();
      assert.equal(counter(event), 2n ** 64n - 2n, "it was full");
      notifier.send();
      assert.equal(counter(event), 1n, "and works again");
      notifier.replace(null);
    }
  });

  test("does not block on a full pipe or socket", () => {
    const notifier = new Notifier("call");
    for (const [reader, writer] of [pipe(), socketPair()]) {
      notifier.replace(writer);
      for (let i = 0; i < 200_000; i++) notifier.send();
      assert.ok(libc.read(reader.number, bytes(4096), 4096) > 0);
      notifier.replace(null);
      reader.close();
    }
  });

  test("survives that nobody reads any more", () => {
    const notifier = new Notifier("call");
    for (const [reader, writer] of [pipe(), socketPair()]) {
      notifier.replace(writer);
      reader.close();
      notifier.send();
      notifier.send();
      notifier.replace(null);
    }
  });
});
