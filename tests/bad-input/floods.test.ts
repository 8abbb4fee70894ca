import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { Header } from "../../core/payloads.ts";
import { type FrontEndMessage, frontEndMessages } from "../../core/protocol.ts";
import { RequestType, SECTOR_SIZE, Segment, Status } from "../../devices/blk/wire.ts";
import { createMemfd, PAGE_SIZE } from "../../ffi/mod.ts";
import { Client, frame, type SendOptions, sleep, u64 } from "./client.ts";
import {
  allRingFeatures,
  defaultTable,
  Guest,
  memTable,
  protocolMask,
  ringAddresses,
  state,
} from "./guest.ts";
import { DISK_SIZE, Program } from "./program.ts";
import { type Descriptor, describe, INDIRECT, NEXT, type Ring } from "./ring.ts";
import { full, suite, TIME_LIMIT } from "./row.ts";

const { row, guest } = suite();

row("a front-end that sends one byte at a time is served", {}, () => {
  using g = guest();
  for (let i = 0; i < 3; i++) {
    for (const name of ["GET_FEATURES", "GET_QUEUE_NUM", "GET_STATUS"] as const) {
      for (const byte of frame(name)) {
        g.client.raw(Uint8Array.of(byte));
        if (byte !== 0) sleep(2);
      }
      const reply = g.client.receive();
      assert.ok(typeof reply !== "string" && reply.code === frontEndMessages[name].code);
    }
    g.verifyAll();
  }
  // Stopping in the middle stops nobody's rings.
  g.client.raw(frame("SET_OWNER").subarray(0, 7));
  g.verifyAll();
});

row(
  "a front-end that never reads its replies is disconnected",
  { log: [/Cannot reply to message 1: the front-end does not read/] },
  ({ socket }) => {
    using client = new Client(socket);
    const many = Uint8Array.from(Array.from({ length: 200 }, () => [...frame(1)]).flat());
    let sent = 0;
    while (sent < 1_000_000 && client.raw(many)) sent += 200;
    assert.ok(sent < 1_000_000, "the back-end closes the connection");
  },
);

row("floods of messages keep no queue waiting", {}, () => {
  using g = guest();
  const rounds = full ? 500 : 50;
  const many = Uint8Array.from(Array.from({ length: 250 }, () => [...frame(1)]).flat());
  for (let round = 0; round < rounds; round++) {
    g.client.raw(many);
    g.verify(g.ring(round % 2));
    for (let i = 0; i < 250; i++) assert.notEqual(typeof g.client.receive(), "string");
  }
});

row("10 000 memory tables of changing sizes leave no trace", {}, (program) => {
  using g = guest();
  const held = program.holdings();
  using memfd = createMemfd("bad-input-changing", 512 * PAGE_SIZE);
  for (let i = 0; i < 10_000; i++) {
    const count = i % 7;
    const extra = Array.from({ length: count }, (_, slot) => ({
      guest: 2 ** 40 + slot * 2 ** 24,
      user: 2 ** 45 + slot * 2 ** 24,
      size: (1 + ((i * 7 + slot * 13) % 500)) * PAGE_SIZE - (i % 3),
      offset: (i % 5) * PAGE_SIZE,
    }));
    const table = memTable([...defaultTable, ...extra.slice(0, 6)]);
    g.must("SET_MEM_TABLE", table, [g.memfd, g.memfd, ...extra.slice(0, 6).map(() => memfd)]);
    if (i % 500 === 0) g.verifyAll();
  }
  g.setMemory();
  g.verifyAll();
  assert.deepEqual(program.differences(held), []);
});

interface Step {
  readonly name: FrontEndMessage;
  readonly payload?: Uint8Array;
  readonly options?: SendOptions;
}

/** Everything a front-end says from the first message to running rings. */
function handshake(g: Guest): Step[] {
  const ringSteps = g.rings.flatMap((ring): Step[] => [
    { name: "SET_VRING_NUM", payload: state(ring.index, ring.size) },
    { name: "SET_VRING_BASE", payload: state(ring.index, 0) },
    { name: "SET_VRING_ADDR", payload: ringAddresses(ring) },
    { name: "SET_VRING_CALL", payload: u64(ring.index), options: { fds: [ring.callFd] } },
    { name: "SET_VRING_ERR", payload: u64(ring.index), options: { fds: [ring.errFd] } },
    { name: "SET_VRING_KICK", payload: u64(ring.index), options: { fds: [ring.kickFd] } },
    { name: "SET_VRING_ENABLE", payload: state(ring.index, 1) },
  ]);
  return [
    { name: "GET_FEATURES" },
    { name: "GET_PROTOCOL_FEATURES" },
    { name: "SET_PROTOCOL_FEATURES", payload: u64(protocolMask) },
    { name: "GET_QUEUE_NUM" },
    { name: "GET_MAX_MEM_SLOTS" },
    { name: "SET_OWNER" },
    { name: "SET_FEATURES", payload: u64(allRingFeatures) },
    {
      name: "SET_MEM_TABLE",
      payload: memTable(defaultTable),
      options: { fds: [g.memfd, g.memfd] },
    },
    ...ringSteps,
    { name: "GET_STATUS" },
    { name: "GET_VRING_BASE", payload: state(0, 0) },
  ];
}

row("a connection that ends at any point of the handshake leaves no trace", {}, ({ socket }) => {
  using g = guest({ until: "features" });
  g.client[Symbol.dispose]();
  const steps = handshake(g);
  for (let count = 0; count <= steps.length; count++) {
    for (const cut of ["whole", "header", "byte"] as const) {
      using client = new Client(socket);
      for (const { name, payload, options } of steps.slice(0, count)) {
        client.send(name, payload, options);
      }
      // Some replies are never read, so that the end comes as a reset.
      const next = steps[count];
      if (next === undefined || cut === "whole") continue;
      const bytes = frame(next.name, next.payload, next.options);
      const length = cut === "byte" ? 1 : Math.min(Header.size, bytes.length);
      client.raw(bytes.subarray(0, length), next.options?.fds);
    }
  }
});

row("connections that end at once do not add up", {}, ({ socket }) => {
  const clients = Array.from({ length: 12 }, () => new Client(socket));
  for (const client of clients) client[Symbol.dispose]();
  for (let i = 0; i < 500; i++) new Client(socket)[Symbol.dispose]();
});

test("SIGTERM ends a back-end whose front-end stopped in the middle of a message", {
  timeout: TIME_LIMIT,
}, () => {
  for (const length of [0, 1, Header.size, Header.size + 5]) {
    const program = new Program();
    let took = -1;
    try {
      using g = new Guest(program.socket);
      g.client.raw(frame("SET_VRING_CALL", u64(0)).subarray(0, length), length ? [g.memfd] : []);
      g.verifyAll();
    } finally {
      took = program.stop();
    }
    assert.notEqual(took, -1, `after ${length} bytes`);
  }
});

/** Makes a ring full of requests whose one range list has `segments` entries. */
function offerStorm(g: Guest, ring: Ring, type: number, segments: number): void {
  const [header, status] = g.buffers(ring, { type });
  const list = 0x500000;
  const from = 4096;
  for (let i = 0; i < segments; i++) {
    const at = list + i * Segment.size;
    g.view.setBigUint64(at, BigInt(from), true);
    g.view.setUint32(at + Segment.sectors, Math.min(65536, DISK_SIZE / SECTOR_SIZE - from), true);
    g.view.setUint32(at + Segment.flags, 0, true);
  }
  const table: Descriptor[] = [
    header!,
    { address: list, length: segments * Segment.size },
    status!,
  ];
  table.forEach((part, i) => {
    const flags = (part.flags ?? 0) | (i < 2 ? NEXT : 0);
    describe(g.view, 0x400000 + 16 * i, { ...part, flags, next: i + 1 });
  });
  const length = table.length * 16;
  for (let i = 0; i < ring.size; i++) {
    ring.descriptor(i, { address: 0x400000, length, flags: INDIRECT });
  }
  ring.offer(...Array.from({ length: ring.size }, (_, i) => i));
  ring.kick();
}

const storms = [
  ["discards", RequestType.DISCARD, 32],
  ["write-zeroes", RequestType.WRITE_ZEROES, 1],
  ["flushes", RequestType.FLUSH, 0],
] as const;

test("storms of slow requests leave time for other queues and for SIGTERM", {
  timeout: TIME_LIMIT,
}, () => {
  for (const [what, type, segments] of storms) {
    // Where zeros cannot be had for nothing, each request writes its 32 MiB.
    const program = new Program({ folder: existsSync("/dev/shm") ? "/dev/shm" : tmpdir() });
    let took = -1;
    try {
      using g = new Guest(program.socket, { size: 1024 });
      const ring = g.ring(1);
      offerStorm(g, ring, type, segments);
      g.verify(g.ring(0));
      assert.equal(g.client.askU64("GET_STATUS"), 0n, "messages are answered");
      g.verify(g.ring(0));
      if (type === RequestType.DISCARD) {
        assert.ok(ring.complete(1024, 60_000), "all are completed");
        assert.equal(g.memory[ring.data + 16], Status.OK);
        offerStorm(g, ring, type, segments);
      }
    } finally {
      took = program.stop();
    }
    assert.notEqual(took, -1, `SIGTERM ends a back-end amid ${what}`);
  }
});
