import assert from "node:assert/strict";
import { truncateSync } from "node:fs";
import { ConfigHeader } from "../../core/payloads.ts";
import { backEndMessages, DeviceStatus, Flag } from "../../core/protocol.ts";
import { BlkConfig, SECTOR_SIZE } from "../../devices/blk/wire.ts";
import {
  bytes,
  createEventFd,
  type Fd,
  libc,
  O_RDONLY,
  openFile,
  SOL_SOCKET,
  socketPair,
} from "../../ffi/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { ANSWER_LIMIT, frame, readable, sleep, u64 } from "./client.ts";
import type { Guest } from "./guest.ts";
import { DISK_SIZE, type Program } from "./program.ts";
import { suite } from "./row.ts";

const { row, guest } = suite();
const SO_SNDBUF = 7;

interface Range {
  readonly offset: number;
  readonly size: number;
  readonly flags?: number;
  /** Bytes behind the header. */
  readonly data?: Uint8Array;
}

function config({ offset, size, flags = 0, data = new Uint8Array(size) }: Range): Uint8Array {
  const payload = new Uint8Array(ConfigHeader.size + data.length);
  ConfigHeader.encode({ offset, size, flags }, payload);
  payload.set(data, ConfigHeader.size);
  return payload;
}

row(
  "M10 a config range that cannot be read gets an empty reply",
  { log: [/Refused GET_CONFIG: offset, size and payload do not fit together/] },
  () => {
    using g = guest();
    const none = new Uint8Array(0);
    const wrong: Range[] = [
      { offset: 0, size: 0 },
      { offset: 0, size: 257, data: new Uint8Array(256) },
      { offset: 1, size: 256 },
      { offset: 256, size: 1 },
      { offset: 0xffffffff, size: 1 },
      { offset: 0xffffffff, size: 2 },
      { offset: 0, size: 0xffffffff, data: none },
      { offset: 0x80000000, size: 0x80000000, data: none },
      { offset: 0, size: 60, data: new Uint8Array(59) },
      { offset: 0, size: 59, data: new Uint8Array(60) },
      { offset: 0, size: 60, data: none },
    ];
    for (const range of wrong) {
      const reply = g.client.ask("GET_CONFIG", config(range));
      assert.equal(reply.length, 0, JSON.stringify(range));
    }
    for (const size of [1, 8, 60, 96, 256]) {
      const reply = g.client.ask("GET_CONFIG", config({ offset: 0, size }));
      assert.equal(reply.length, ConfigHeader.size + size);
    }
    // Whatever lies behind the device's own fields is zero, not memory of the process.
    const end = g.client.ask("GET_CONFIG", config({ offset: BlkConfig.size, size: 100 }));
    assert.ok(end.subarray(ConfigHeader.size).every((byte) => byte === 0));
    g.verifyAll();
  },
);

const wce = BlkConfig.offset.wce;

function readWce(g: Guest): number {
  return g.client.ask("GET_CONFIG", config({ offset: wce, size: 1 }))[ConfigHeader.size]!;
}

row(
  "M11 only the write cache's byte can be changed",
  { log: [/only the write cache's byte can be written/, /SET_CONFIG has unknown flags 2/] },
  () => {
    using g = guest();
    const before = g.client.ask("GET_CONFIG", config({ offset: 0, size: 256 }));
    const set = (range: Range) => g.client.ack("SET_CONFIG", config(range));
    const ones = (length: number) => new Uint8Array(length).fill(0xff);
    for (let offset = 0; offset < 256; offset++) {
      if (offset === wce) continue;
      assert.equal(set({ offset, size: 1, data: ones(1) }), "refused", `byte ${offset}`);
    }
    assert.equal(set({ offset: 0, size: 256, data: ones(256) }), "refused");
    assert.equal(set({ offset: wce, size: 2, data: ones(2) }), "refused");
    assert.equal(set({ offset: wce - 1, size: 2, data: ones(2) }), "refused");
    assert.equal(set({ offset: 0, size: 0 }), "refused");
    assert.equal(set({ offset: wce, size: 1, data: ones(0) }), "refused");
    assert.equal(set({ offset: wce, size: 1, data: ones(2) }), "refused");
    assert.equal(set({ offset: 0xffffffff, size: 1, data: ones(1) }), "refused");
    for (const flags of [2, 3, 0xffffffff]) {
      assert.equal(set({ offset: wce, size: 1, data: ones(1), flags }), "refused");
    }
    const after = g.client.ask("GET_CONFIG", config({ offset: 0, size: 256 }));
    assert.deepEqual(after, before, "nothing has changed");
    // A migration writes back what it read, the read-only fields included.
    const whole = before.slice(ConfigHeader.size);
    assert.equal(set({ offset: 0, size: 256, data: whole, flags: 1 }), "ok");
    whole[0] = whole[0]! ^ 1;
    assert.equal(set({ offset: 0, size: 256, data: whole, flags: 1 }), "refused");
    for (const value of [0, 1]) {
      assert.equal(set({ offset: wce, size: 1, data: Uint8Array.of(value) }), "ok");
      assert.equal(readWce(g), value);
    }
    g.verifyAll();
  },
);

/** Makes the device announce a change of its config space: the disk grows and shrinks. */
function changeConfig(g: Guest, program: Program): void {
  const capacity = (): bigint => {
    const reply = g.client.ask("GET_CONFIG", config({ offset: 0, size: 8 }));
    return new DataView(reply.buffer).getBigUint64(ConfigHeader.size, true);
  };
  const now = Number(capacity()) * SECTOR_SIZE;
  const next = now === DISK_SIZE ? DISK_SIZE * 2 : DISK_SIZE;
  truncateSync(program.image, next);
  process.kill(program.pid, "SIGHUP");
  const until = performance.now() + ANSWER_LIMIT;
  while (Number(capacity()) * SECTOR_SIZE !== next) {
    assert.ok(performance.now() < until, "the device sees its new size");
  }
}

type Pair = [front: Fd, back: Fd];

/** A socket pair that soon has no room for another request. */
function channel(): Pair {
  const pair = socketPair();
  const least = new Int32Array(new ArrayBuffer(4));
  libc.setsockopt(pair[1].number, SOL_SOCKET, SO_SNDBUF, least, 4);
  return pair;
}

/** The next request on the back-end's channel, or none. */
function announced(
  channel: Fd,
  limit = ANSWER_LIMIT,
  flags: number = Flag.VERSION | Flag.NEED_REPLY,
): boolean {
  if (!readable(channel, limit)) return false;
  const message = bytes(12);
  if (libc.read(channel.number, message, 12) !== 12) return false;
  const { code } = backEndMessages.CONFIG_CHANGE_MSG;
  assert.deepEqual(message, frame(code, undefined, { flags }));
  return true;
}

row(
  "M12 the back-end's channel can be replaced, closed, filled, and left unanswered",
  { log: [/did not answer CONFIG_CHANGE_MSG within 5000 ms/, /malformed reply/] },
  (program) => {
    using g = guest();
    const channels = Array.from({ length: 5 }, () => channel());
    const [first, second, third, fourth, fifth] = channels as [Pair, Pair, Pair, Pair, Pair];
    const setChannel = ([, end]: Pair) => {
      g.must("SET_BACKEND_REQ_FD", undefined, [end]);
      end.close();
    };
    setChannel(first);
    const held = program.holdings();
    setChannel(second);
    changeConfig(g, program);
    assert.ok(announced(second[0]), "the new channel is used");
    assert.ok(!announced(first[0], 50), "the old one is closed");
    assert.deepEqual(program.differences(held), []);

    // Never answered, never read: the device goes on without it, and says so once.
    const line = program.log().length;
    const complaints = () => program.log(line).filter((text) => /did not answer/.test(text));
    for (let i = 0; i < 20; i++) changeConfig(g, program);
    g.verifyAll();
    sleep(5_200);
    assert.equal(complaints().length, 1);
    // It is told of changes all the same, once for all that it has not read.
    while (readable(second[0])) libc.read(second[0].number, bytes(4096), 4096);
    changeConfig(g, program);
    assert.ok(announced(second[0], ANSWER_LIMIT, Flag.VERSION));
    changeConfig(g, program);
    sleep(200);
    assert.equal(complaints().length, 1);

    // Closed by the peer.
    setChannel(third);
    third[0].close();
    assert.ok(program.idle(), "a closed channel does not keep the back-end busy");
    changeConfig(g, program);
    changeConfig(g, program);

    // Answers nobody asked for, in pieces, then nonsense.
    setChannel(fourth);
    const flags = Flag.VERSION | Flag.REPLY;
    for (const byte of frame(2, u64(1), { flags })) {
      libc.write(fourth[0].number, bytes(1).fill(byte), 1);
    }
    libc.write(fourth[0].number, bytes(4096).fill(0xee), 4096);
    changeConfig(g, program);
    g.verifyAll();

    setChannel(fifth);
    changeConfig(g, program);
    assert.ok(announced(fifth[0]), "a fresh channel works");
    for (const [end] of channels) end.close();
  },
);

row(
  "M12 what is no socket is of no use as the back-end's channel",
  { log: [/Cannot send CONFIG_CHANGE_MSG|request channel failed/] },
  (program) => {
    using g = guest();
    using file = openFile(program.image, O_RDONLY);
    assert.equal(g.client.ack("SET_BACKEND_REQ_FD", undefined, [file]), "refused");
    using pipe = createPipe();
    using eventfd = createEventFd();
    for (const fd of [pipe.reader, pipe.writer, eventfd]) {
      g.client.ack("SET_BACKEND_REQ_FD", undefined, [fd]);
      changeConfig(g, program);
      g.verifyAll();
    }
    libc.write(eventfd.number, bytes(8).fill(1), 8);
    libc.write(pipe.writer.number, bytes(8), 8);
    changeConfig(g, program);
    assert.ok(program.idle());
  },
);

row("M16 any status is kept, and status 0 stops the rings", {}, () => {
  using g = guest({ until: "memory" });
  const { FEATURES_OK, DRIVER_OK, DRIVER, ACKNOWLEDGE } = DeviceStatus;
  for (const value of [FEATURES_OK, DRIVER_OK, 0xff, 0]) {
    g.must("SET_STATUS", u64(value));
    assert.equal(g.client.askU64("GET_STATUS"), BigInt(value));
  }
  g.must("SET_STATUS", u64(0xffff_ffff_ffff_ff0fn));
  assert.equal(g.client.askU64("GET_STATUS"), 0x0fn, "8 bits");
  g.startAll();
  g.must("SET_STATUS", u64(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK));
  g.verifyAll();
  for (let i = 0; i < 3; i++) g.must("SET_STATUS", u64(0));
  const ring = g.ring(0);
  ring.offer(ring.chain(0, g.buffers(ring, { type: 4 })));
  ring.kick();
  assert.ok(!ring.complete(1, 50), "a stopped ring takes nothing");
  g.startAll();
  g.verifyAll();
  for (let i = 0; i < 3; i++) g.must("RESET_DEVICE");
  assert.equal(g.client.askU64("GET_STATUS"), 0n);
  g.startAll();
  g.verifyAll();
});
