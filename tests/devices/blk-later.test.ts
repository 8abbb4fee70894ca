/** Requests that a store carries out in the background, by a background that does it when told to. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PENDING, STOP } from "../../core/device.ts";
import { type Background, type Job, WAIT, Work } from "../../devices/blk/background.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { EIO } from "../../ffi/mod.ts";
import { BlkRequests, pattern } from "./blk-requests.ts";
import { MemoryStore } from "./memory-store.ts";

class SlowStore extends MemoryStore {
  readonly background = new SlowBackground(this);
}

class SlowBackground implements Background {
  readonly jobs: Job[] = [];
  readonly #store: MemoryStore;
  room = 4;
  submitted = 0;

  constructor(store: MemoryStore) {
    this.#store = store;
  }

  get full(): boolean {
    return this.jobs.length === this.room;
  }

  tryRead = (): number => WAIT;
  tryWrite = (): number => WAIT;

  start(job: Job): number {
    this.jobs.push(job);
    return WAIT;
  }

  submit(): void {
    this.submitted++;
  }

  finish(): boolean {
    while (this.jobs.length > 0) this.endOne();
    return true;
  }

  /** Ends the oldest job. */
  endOne(error = 0): void {
    const job = this.jobs.shift()!;
    job.ended(job, error < 0 ? error : this.#carryOut(job));
  }

  #carryOut({ work, transfer, offset, length, unmap }: Job): number {
    const store = this.#store;
    if (work === Work.READ) return store.read(transfer, offset) as number;
    if (work === Work.WRITE) return store.write(transfer, offset) as number;
    if (work === Work.FLUSH) return store.flush() as number;
    if (work === Work.DISCARD) return store.discard(offset, length) as number;
    return store.writeZeroes(offset, length, unmap) as number;
  }

  [Symbol.dispose](): void {}
}

describe("A request that goes on in the background", () => {
  test("is completed when its job has ended", () => {
    const store = new SlowStore(64 * 512);
    using requests = new BlkRequests(store);
    const write = requests.begin({ type: RequestType.OUT, sector: 3, data: pattern(1024) });
    assert.equal(write.outcome, PENDING);
    assert.equal(requests.queue.inFlight, 1);
    store.background.endOne();
    assert.equal(requests.queue.inFlight, 0);
    assert.equal(write.answer().status, Status.OK);
    const read = requests.begin({ type: RequestType.IN, sector: 3, room: 1024 });
    assert.equal(read.outcome, PENDING);
    store.background.endOne();
    const { status, data, written } = read.answer();
    assert.equal(status, Status.OK);
    assert.deepEqual(data, pattern(1024));
    assert.equal(written, 1025);
  });

  test("fails with its job", () => {
    const store = new SlowStore(64 * 512);
    using requests = new BlkRequests(store);
    for (const type of [RequestType.IN, RequestType.FLUSH]) {
      const request = requests.begin({ type, sector: 0, room: 512 });
      store.background.endOne(-EIO);
      assert.equal(request.answer().status, Status.IOERR);
    }
  });

  test("is durable before it is completed without a write cache", () => {
    const store = new SlowStore(64 * 512);
    using requests = new BlkRequests(store);
    const write = requests.begin({ type: RequestType.OUT, sector: 0, data: pattern(512) });
    requests.handler.writeCache = false;
    store.background.endOne();
    assert.equal(requests.queue.inFlight, 1, "it is not durable yet");
    assert.equal(store.background.jobs[0]!.work, Work.FLUSH);
    store.background.endOne();
    assert.equal(write.answer().status, Status.OK);
    assert.deepEqual(store.log.slice(-1), ["flush"]);
  });

  test("stays available while there is no room, and its queue goes on when there is", () => {
    const store = new SlowStore(64 * 512);
    using requests = new BlkRequests(store);
    const read = () => requests.begin({ type: RequestType.IN, sector: 0, room: 512 });
    const begun = Array.from({ length: 4 }, read);
    let resumed = 0;
    requests.queue.resume = () => void resumed++;
    assert.equal(read().outcome, STOP);
    requests.queue.putBack();
    assert.equal(resumed, 0);
    store.background.endOne();
    assert.equal(resumed, 1);
    store.background.endOne();
    assert.equal(resumed, 1, "once is enough");
    store.background.finish();
    for (const request of begun.slice(-1)) assert.equal(request.answer().status, Status.OK);
  });
});
