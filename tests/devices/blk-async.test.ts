/** Block requests whose store answers later. */
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { PENDING } from "../../core/device.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { EIO } from "../../ffi/mod.ts";
import { until } from "../core/until.ts";
import { BlkRequests, pattern, type Request, segments } from "./blk-requests.ts";
import { MemoryStore } from "./memory-store.ts";

const { IN, OUT, FLUSH, GET_ID, DISCARD } = RequestType;
const { OK, IOERR } = Status;

describe("A block request of an async store", () => {
  const opened: BlkRequests[] = [];
  afterEach(() => {
    for (const requests of opened.splice(0)) requests[Symbol.dispose]();
  });

  function disk() {
    const store = new MemoryStore(16 * 512, { async: true });
    const requests = new BlkRequests(store);
    opened.push(requests);
    const begin = (request: Request) => {
      const pending = requests.begin(request);
      assert.equal(pending.outcome, PENDING);
      return pending;
    };
    const waiting = (count: number) => until(() => store.waiting.length === count, "the store");
    const settled = (inFlight: number) =>
      until(() => requests.queue.inFlight === inFlight, "completions");
    return { store, requests, begin, waiting, settled };
  }

  test("is completed when the store answers, in whatever order", async () => {
    const { store, begin, waiting, settled } = disk();
    const read = begin({ type: IN, sector: 2, room: 512 });
    const write = begin({ type: OUT, sector: 4, data: pattern(1024) });
    const flush = begin({ type: FLUSH });
    await waiting(3);
    const expected = store.data.slice(1024, 1536);
    store.waiting[2]!.release();
    await settled(2);
    assert.deepEqual(flush.answer(), { written: 1, status: OK, data: new Uint8Array(0) });
    store.waiting[1]!.release();
    await settled(1);
    assert.equal(write.answer().status, OK);
    assert.deepEqual(store.data.slice(2048, 3072), pattern(1024));
    store.waiting[0]!.release();
    await settled(0);
    assert.deepEqual(read.answer(), { written: 513, status: OK, data: expected });
  });

  test("that the store never sees is held as well, and answered", async () => {
    const { store, begin, settled } = disk();
    const outside = begin({ type: IN, sector: 99, room: 512 });
    const identifier = begin({ type: GET_ID, room: 20 });
    await settled(0);
    const answers = [outside.answer(), identifier];
    assert.deepEqual(answers[0], {
      written: 0,
      status: IOERR,
      data: new Uint8Array(512).fill(0xee),
    });
    assert.deepEqual(store.log, []);
  });

  test("fails when the store's promise is broken or negative", async () => {
    const { store, requests, begin, settled } = disk();
    store.read = () => Promise.reject(new Error("the network is down"));
    const broken = begin({ type: IN, room: 512 });
    await settled(0);
    assert.equal(broken.answer().status, IOERR);
    assert.match(requests.records[0]!.message, /The store failed: the network is down/);
    store.read = async () => -EIO;
    const negative = begin({ type: IN, room: 512 });
    await settled(0);
    assert.deepEqual([negative.answer().status], [IOERR]);
    store.read = () => {
      throw new Error("at once");
    };
    const thrown = begin({ type: IN, room: 512 });
    await settled(0);
    assert.equal(thrown.answer().status, IOERR);
  });

  test("is flushed before it is completed without a write cache (B5)", async () => {
    const { store, requests, begin, waiting, settled } = disk();
    requests.handler.writeCache = false;
    const write = begin({ type: OUT, data: pattern(512) });
    await waiting(1);
    store.waiting[0]!.release();
    await waiting(2);
    assert.equal(requests.queue.inFlight, 1);
    assert.equal(store.waiting[1]!.name, "flush");
    store.waiting[1]!.release();
    await settled(0);
    assert.equal(write.answer().status, OK);
    assert.deepEqual(store.log, ["write 0+512", "flush"]);
  });

  test("is flushed when the write cache was switched off while it was written (B5)", async () => {
    const { store, requests, begin, waiting, settled } = disk();
    const write = begin({ type: OUT, data: pattern(512) });
    await waiting(1);
    requests.handler.writeCache = false;
    store.waiting[0]!.release();
    await waiting(2);
    assert.equal(store.waiting[1]!.name, "flush");
    store.waiting[1]!.release();
    await settled(0);
    assert.equal(write.answer().status, OK);
  });

  test("has its segments carried out one after another", async () => {
    const { store, begin, waiting, settled } = disk();
    const data = segments({ sector: 0, sectors: 1 }, { sector: 4, sectors: 2 });
    const discard = begin({ type: DISCARD, data });
    await waiting(1);
    store.waiting[0]!.release();
    await waiting(2);
    store.waiting[1]!.release();
    await settled(0);
    assert.equal(discard.answer().status, OK);
    assert.deepEqual(store.log, ["discard 0+512", "discard 2048+1024"]);
  });

  test("touches nothing when its queue has ended meanwhile", async () => {
    const { store, requests, begin, waiting } = disk();
    const read = begin({ type: IN, room: 512 });
    const write = begin({ type: OUT, sector: 1, data: pattern(512, 9) });
    await waiting(2);
    const before = store.data.slice();
    requests.queue.close();
    for (const { release } of store.waiting) release();
    await new Promise((resolve) => setTimeout(resolve, 10));
    assert.equal(requests.ring.shownUsed, 0);
    assert.deepEqual(store.data, before, "bytes that nobody sent must not reach the disk");
    assert.ok(read.head !== write.head);
  });
});
