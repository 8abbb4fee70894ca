/** io_uring by hand. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import {
  bytes,
  EBADF,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  Iovecs,
  libc,
  O_RDWR,
  openFile,
  POLLFD,
  URING_FSYNC_DATASYNC,
  Uring,
  UringOperation,
} from "../../ffi/mod.ts";

/** Why there is no io_uring here, or null. */
function uringMissing(): string | null {
  try {
    new Uring(1, 1)[Symbol.dispose]();
    return null;
  } catch (error) {
    return `no io_uring: ${(error as Error).message}`;
  }
}

const { READ, WRITE, READV, WRITEV, FSYNC, FALLOCATE } = UringOperation;

/** Waits for `count` completions. Returns their results by their tokens. */
function take(ring: Uring, count: number): Map<number, number> {
  const results = new Map<number, number>();
  const request = bytes(POLLFD.size);
  const view = new DataView(request.buffer);
  view.setInt32(POLLFD.fd, ring.events.number, true);
  view.setInt16(POLLFD.events, 1, true);
  while (results.size < count) {
    while (ring.next()) results.set(ring.token, ring.result);
    if (results.size === count) break;
    assert.equal(libc.poll(request, 1, 5000), 1, "the eventfd tells of completions");
    ring.collect();
  }
  return results;
}

describe("Uring", { skip: uringMissing() ?? false }, () => {
  const folder = mkdtempSync(join(tmpdir(), "ringside-uring-"));
  after(() => rmSync(folder, { recursive: true }));
  const makeFile = (name: string, content: Uint8Array) => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  };
  const counted = (length: number) => Uint8Array.from({ length }, (_, i) => i % 251);

  test("moves data, of one buffer or several, and syncs", () => {
    const path = makeFile("data", counted(8192));
    using fd = openFile(path, O_RDWR);
    using ring = new Uring(8, 16);
    const buffer = bytes(4096);
    const list = new Iovecs(4);
    list.pushView(buffer);
    const [low, high] = list.words as unknown as [number, number];
    ring.push(READ, fd.number, 1000, low, high, 4096, 0, 7);
    assert.equal(ring.submit(), 0);
    assert.deepEqual([...take(ring, 1)], [[7, 4096]]);
    assert.deepEqual(buffer, counted(8192).subarray(1000, 5096));
    const halves = new Iovecs(4);
    halves.pushView(buffer.subarray(2048));
    halves.pushView(buffer.subarray(0, 2048));
    const table = new Iovecs(4);
    table.pushView(halves.words);
    const [from, above] = table.words as unknown as [number, number];
    ring.push(WRITEV, fd.number, 0, from, above, 2, 0, 1);
    ring.push(FSYNC, fd.number, 0, 0, 0, 0, URING_FSYNC_DATASYNC, 2);
    ring.submit();
    assert.deepEqual([...take(ring, 2)].sort(), [
      [1, 4096],
      [2, 0],
    ]);
    const file = new Uint8Array(readFileSync(path));
    assert.deepEqual(file.subarray(0, 2048), counted(8192).subarray(3048, 5096));
    assert.deepEqual(file.subarray(2048, 4096), counted(8192).subarray(1000, 3048));
    buffer.fill(0);
    ring.push(READV, fd.number, 0, from, above, 2, 0, 3);
    ring.push(WRITE, fd.number, 8192, low, high, 100, 0, 4);
    ring.submit();
    take(ring, 2);
    assert.deepEqual(buffer, counted(8192).subarray(1000, 5096));
    assert.equal(readFileSync(path).length, 8292);
  });

  test("works beyond 4 GiB", () => {
    using fd = openFile(makeFile("large", new Uint8Array(0)), O_RDWR);
    libc.ftruncate(fd.number, 3 * 2 ** 32);
    using ring = new Uring(8, 16);
    const at = 2 ** 33 + 4096 * 7;
    const buffer = bytes(4096).fill(9);
    const list = new Iovecs(1);
    list.pushView(buffer);
    const [low, high] = list.words as unknown as [number, number];
    ring.push(WRITE, fd.number, at, low, high, 4096, 0, 0);
    ring.submit();
    assert.equal(take(ring, 1).get(0), 4096);
    const back = bytes(4096);
    const other = new Iovecs(1);
    other.pushView(back);
    assert.equal(libc.preadv(fd.number, other.words, 1, at), 4096);
    assert.deepEqual(back, buffer);
    // A hole of more than 4 GiB: its length is where other operations have an address.
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const length = 2 ** 32 + 2 ** 31;
    ring.push(FALLOCATE, fd.number, 2 ** 33, length | 0, length / 2 ** 32, mode, 0, 5);
    ring.submit();
    assert.equal(take(ring, 1).get(5), 0);
    assert.equal(libc.preadv(fd.number, other.words, 1, at), 4096);
    assert.deepEqual(back, bytes(4096));
  });

  test("reports what fails", () => {
    using ring = new Uring(8, 16);
    ring.push(READ, 1_000_000, 0, 0, 0, 1, 0, 42);
    ring.submit();
    assert.deepEqual([...take(ring, 1)], [[42, -EBADF]]);
    assert.equal(ring.inFlight, 0);
  });

  test("comes round many times, and says when it is full", () => {
    using fd = openFile(makeFile("round", counted(4096)), O_RDWR);
    using ring = new Uring(4, 8);
    const list = new Iovecs(1);
    list.pushView(bytes(4096));
    const [low, high] = list.words as unknown as [number, number];
    const push = (token: number) => ring.push(READ, fd.number, 0, low, high, token, 0, token);
    for (let round = 0; round < 300; round++) {
      for (let i = 1; i <= 4; i++) push(i);
      assert.ok(ring.full);
      assert.throws(() => push(5), RangeError);
      assert.equal(ring.inFlight, 4);
      ring.submit();
      assert.deepEqual(
        [...take(ring, 4)].sort(),
        [1, 2, 3, 4].map((i) => [i, i]),
      );
    }
  });
});
