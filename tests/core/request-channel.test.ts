import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { Log, type LogRecord } from "../../core/log.ts";
import { Header, U64, VringState } from "../../core/payloads.ts";
import { Flag } from "../../core/protocol.ts";
import { RequestChannel } from "../../core/request-channel.ts";
import {
  createMemfd,
  type Fd,
  libc,
  MessageBuffer,
  SOL_SOCKET,
  socketPair,
} from "../../ffi/mod.ts";
import { openFiles } from "../support/process-status.ts";
import { pause, until } from "./until.ts";
import { useLoop } from "./use-loop.ts";

const SO_SNDBUF = 7;

/** Descriptors of this process that refer to what the tests pass around. */
function memfds(): number {
  let count = 0;
  for (const [target, descriptors] of openFiles(process.pid)) {
    if (target.includes("memfd:passed")) count += descriptors;
  }
  return count;
}

const ASK = Flag.VERSION | Flag.NEED_REPLY;
const uuid = (byte: number) => new Uint8Array(16).fill(byte);

interface Request {
  readonly code: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  readonly fds: number;
}

describe("A request channel", () => {
  const suite = useLoop();
  let front: Fd;
  let channel: RequestChannel;
  const records: LogRecord[] = [];
  const buffer = new MessageBuffer(4096);

  beforeEach(() => {
    records.length = 0;
  });
  afterEach(() => {
    channel[Symbol.dispose]();
    front.close();
  });

  function open(
    options: { acknowledged?: boolean; descriptors?: boolean; room?: number; limit?: number } = {},
  ) {
    const { acknowledged = true, descriptors = true, room, limit = 4000 } = options;
    const [ours, theirs] = socketPair();
    front = ours;
    if (room !== undefined) {
      const size = new Int32Array(new ArrayBuffer(4)).fill(room);
      libc.setsockopt(theirs.number, SOL_SOCKET, SO_SNDBUF, size, 4);
    }
    const log = new Log((record) => records.push(record), "debug");
    channel = new RequestChannel(theirs, suite.current, log, {
      acknowledged,
      descriptors,
      answerLimit: limit,
    });
  }

  /** The next request, or null when there is none. */
  function take(): Request | null {
    if (buffer.receive(front, 0, Header.size) < Header.size) return null;
    const fds = buffer.received.length;
    for (const fd of buffer.received) fd.close();
    const { request, flags, size } = Header.decode(buffer.data);
    if (size > 0) buffer.receive(front, 0, size);
    return { code: request, flags, payload: buffer.data.slice(0, size), fds };
  }

  function answer(code: number, value: bigint, fd?: Fd, flags = Flag.VERSION | Flag.REPLY): void {
    Header.encode({ request: code, flags, size: U64.size }, buffer.data);
    U64.encode({ value }, buffer.data, Header.size);
    buffer.send(front, 0, Header.size + U64.size, fd === undefined ? [] : [fd.number]);
  }

  const warnings = () => records.filter(({ level }) => level === "warn").map((r) => r.message);

  test("matches answers in the order of the requests", async () => {
    open();
    channel.send("CONFIG_CHANGE_MSG");
    const add = channel.request("SHARED_OBJECT_ADD", uuid(1));
    const remove = channel.request("SHARED_OBJECT_REMOVE", uuid(2));
    const sent = [take(), take(), take()].map((request) => [request?.code, request?.flags]);
    assert.deepEqual(sent, [
      [2, ASK],
      [6, ASK],
      [7, ASK],
    ]);
    answer(2, 0n);
    answer(6, 5n);
    answer(7, 0n);
    assert.deepEqual([await add, await remove], [5n, 0n]);
  });

  test("passes descriptors both ways, and keeps none", async () => {
    open();
    using passed = createMemfd("passed", 4096);
    const before = memfds();
    const map = channel.request("SHMEM_MAP", new Uint8Array(40), Array(8).fill(passed));
    assert.equal(take()?.fds, 8);
    const lookup = channel.ask("SHARED_OBJECT_LOOKUP", uuid(3));
    const plain = channel.request("SHARED_OBJECT_ADD", uuid(3));
    assert.equal(take()?.code, 8);
    answer(9, 0n);
    answer(8, 0n, passed);
    // A descriptor that does not belong there is closed.
    answer(6, 0n, passed);
    assert.equal(await map, 0n);
    const { value, fd } = await lookup;
    assert.equal(value, 0n);
    assert.ok(fd !== null);
    assert.equal(fd.stat().size, 4096);
    fd.close();
    await plain;
    assert.equal(memfds(), before);
    await assert.rejects(
      channel.request("SHMEM_MAP", new Uint8Array(40), Array(9).fill(passed)),
      /9 descriptors are more than 8/,
    );
  });

  test("passes no descriptors unless that is negotiated", async () => {
    open({ descriptors: false });
    using passed = createMemfd("passed", 4096);
    const request = channel.request("SHMEM_MAP", new Uint8Array(40), [passed]);
    await assert.rejects(request, /BACKEND_SEND_FD is not negotiated/);
    assert.equal(take(), null);
  });

  test("asks for no acknowledgement without REPLY_ACK, but always for an object", async () => {
    open({ acknowledged: false });
    assert.equal(await channel.request("SHARED_OBJECT_ADD", uuid(1)), 0n);
    assert.equal(take()?.flags, Flag.VERSION);
    const lookup = channel.ask("SHARED_OBJECT_LOOKUP", uuid(1));
    assert.equal(take()?.flags, Flag.VERSION);
    answer(8, 1n);
    assert.deepEqual(await lookup, { value: 1n, fd: null });
  });

  test("goes on without answers when the front-end never gives one, and says so once", async () => {
    open({ limit: 60 });
    const first = channel.request("SHARED_OBJECT_ADD", uuid(1));
    const second = channel.ask("SHARED_OBJECT_LOOKUP", uuid(2));
    await assert.rejects(first, /did not answer SHARED_OBJECT_ADD within 60 ms/);
    await assert.rejects(second);
    await assert.rejects(channel.ask("SHARED_OBJECT_LOOKUP", uuid(2)), /does not answer/);
    assert.equal(await channel.request("SHARED_OBJECT_REMOVE", uuid(1)), 0n);
    assert.deepEqual(
      [take(), take(), take()].map((request) => request?.flags),
      [ASK, ASK, Flag.VERSION],
    );
    // Answers that come too late are no offence.
    answer(6, 0n);
    answer(8, 1n);
    await pause(100);
    channel.send("CONFIG_CHANGE_MSG");
    await until(() => take()?.code === 2, "the channel still works");
    assert.equal(warnings().length, 1);
  });

  test("bounds what waits for a front-end that does not read", async () => {
    open({ acknowledged: false, room: 1 });
    const requests = Array.from({ length: 300 }, (_, i) =>
      channel.request("SHARED_OBJECT_ADD", uuid(i)).then(
        () => "sent",
        (error: Error) => error.message,
      ),
    );
    for (let i = 0; i < 300; i++) channel.send("SHARED_OBJECT_REMOVE", uuid(i));
    const seen: Request[] = [];
    await until(() => {
      const request = take();
      if (request !== null) seen.push(request);
      return request === null && seen.length > 64;
    }, "what was not dropped");
    const results = await Promise.all(requests);
    const dropped = results.filter((result) => /does not read its requests/.test(result));
    assert.ok(dropped.length > 150, `${dropped.length} are refused`);
    await until(() => {
      const request = take();
      if (request !== null) seen.push(request);
      return seen.length >= 300 - dropped.length;
    }, "all the others");
    assert.equal(warnings().length, 1);
    assert.match(warnings()[0]!, /does not read its requests: SHARED_OBJECT_REMOVE is lost/);
  });

  test("sends one notification for all that happen while the front-end does not read", async () => {
    open({ room: 1 });
    for (let i = 0; i < 50_000; i++) channel.notify("VRING_CALL", i % 3);
    channel.notify("VRING_ERR", 1);
    const seen: Request[] = [];
    const drain = () => {
      for (let request = take(); request !== null; request = take()) seen.push(request);
    };
    await until(() => {
      drain();
      return seen.some(({ code }) => code === 5);
    }, "the error");
    await pause(20);
    drain();
    assert.ok(seen.length < 1000, `${seen.length} messages`);
    assert.ok(seen.every(({ flags }) => flags === Flag.VERSION));
    const last = seen.slice(-4).map(({ code, payload }) => {
      const { index, num } = VringState.decode(payload);
      return `${code} ${index} ${num}`;
    });
    // Whatever came late is not lost: each vring is called once more.
    assert.deepEqual([...last].sort(), ["4 0 0", "4 1 0", "4 2 0", "5 1 0"]);
    channel.notify("VRING_CALL", 2);
    assert.equal(take()?.code, 4, "with room again, nothing waits");
  });

  test("ends with its requests when the front-end closes or answers nonsense", async () => {
    open();
    const request = channel.request("SHARED_OBJECT_ADD", uuid(1));
    front.close();
    await assert.rejects(request, /front-end's request channel failed/);
    await assert.rejects(channel.request("SHARED_OBJECT_ADD", uuid(1)), /channel is closed/);
    channel[Symbol.dispose]();
    const wrong: [number, number][] = [
      [7, Flag.VERSION | Flag.REPLY],
      [6, Flag.VERSION],
      [6, Flag.VERSION | Flag.REPLY | Flag.NEED_REPLY],
    ];
    for (const [code, flags] of wrong) {
      open();
      using passed = createMemfd("passed", 4096);
      const asked = channel.request("SHARED_OBJECT_ADD", uuid(1));
      answer(code, 0n, passed, flags);
      await assert.rejects(asked, /malformed reply/);
      channel[Symbol.dispose]();
      front.close();
    }
  });

  test("rejects what is under way when it is replaced", async () => {
    open({ room: 1 });
    using passed = createMemfd("passed", 4096);
    const before = memfds();
    const waiting = Array.from({ length: 60 }, () =>
      channel.request("SHMEM_MAP", new Uint8Array(40), [passed]).catch(() => {}),
    );
    const asked = channel.request("SHARED_OBJECT_ADD", uuid(1));
    channel[Symbol.dispose]();
    await assert.rejects(asked, /channel is closed/);
    await Promise.all(waiting);
    for (let request = take(); request !== null; request = take())
      assert.equal(request.fds <= 1, true);
    assert.equal(memfds(), before);
  });
});
