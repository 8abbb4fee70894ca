/** Block requests that would keep everybody else waiting. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { BlkRequests, encodeRequest } from "./blk-requests.ts";
import { MemoryStore } from "./memory-store.ts";

const MIB = 2 ** 20;
const HEADER = 0x40000;
const DATA = 0x50000;
const STATUS = 0x60000;

describe("A block request over the same memory again and again", () => {
  /** Sends a request whose data buffers are one piece of memory, `count` times. */
  function send(type: number, count: number, length: number): { status: number; log: string[] } {
    const store = new MemoryStore(512);
    store.size = 1024 * MIB;
    store.read = (transfer) => {
      store.log.push(`read ${transfer.length}`);
      return 0;
    };
    store.write = (transfer) => {
      store.log.push(`write ${transfer.length}`);
      return 0;
    };
    using requests = new BlkRequests(store);
    requests.guest.write(HEADER, encodeRequest({ type }));
    const writable = type === RequestType.IN;
    const buffers = [
      { address: HEADER, length: 16, writable: false },
      ...Array(count).fill({ address: DATA, length, writable }),
      { address: STATUS, length: 1, writable: true },
    ];
    requests.ring.offer(buffers, 0, 0x70000);
    assert.ok(requests.queue.next());
    requests.handler.handle(requests.queue.chain, requests.queue);
    return { status: requests.guest.read(STATUS, 1)[0]!, log: store.log };
  }

  test("is carried out up to 64 MiB", () => {
    assert.deepEqual(send(RequestType.IN, 1000, 65536), {
      status: Status.OK,
      log: ["read 65536000"],
    });
    assert.deepEqual(send(RequestType.OUT, 512, 131072), {
      status: Status.OK,
      log: ["write 67108864"],
    });
  });

  test("gets IOERR beyond that", () => {
    for (const type of [RequestType.IN, RequestType.OUT]) {
      assert.deepEqual(send(type, 513, 131072), { status: Status.IOERR, log: [] });
    }
  });
});
