import assert from "node:assert/strict";
import { closeSync, openSync, readSync } from "node:fs";
import { mask, RingFeature } from "../../core/features.ts";
import { VringAddr } from "../../core/payloads.ts";
import { RequestType, SECTOR_SIZE, Status } from "../../devices/blk/wire.ts";
import { createEventFd, signal } from "../../ffi/mod.ts";
import { frame, readable, u64 } from "./client.ts";
import {
  allRingFeatures,
  type Guest,
  MEMORY_SIZE,
  REGION_SIZE,
  ringAddresses,
  state,
  user,
} from "./guest.ts";
import { AVAILABLE, type Ring, USED } from "./ring.ts";
import { suite } from "./row.ts";

const { row, guest } = suite();
const withoutEvents = allRingFeatures & ~mask(RingFeature.EVENT_IDX);

row(
  "V1 a vring index that the device does not have is refused",
  { log: [/Cannot use vring 256: the device has \d+/, /Cannot use vring 4294967295/] },
  () => {
    using g = guest();
    const queues = Number(g.client.askU64("GET_QUEUE_NUM"));
    const wide = [queues, 255, 256, 65536, 65537, 0xffffffff];
    for (const index of wide) {
      for (const name of ["SET_VRING_NUM", "SET_VRING_BASE", "SET_VRING_ENABLE"] as const) {
        assert.equal(g.client.ack(name, state(index, 1)), "refused", `${name} of ${index}`);
      }
      const address = VringAddr.encode({ index });
      assert.equal(g.client.ack("SET_VRING_ADDR", address), "refused", `address of ${index}`);
    }
    using eventfd = createEventFd();
    for (const index of [queues, 200, 255]) {
      for (const name of ["SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR"] as const) {
        assert.equal(g.client.ack(name, u64(index), [eventfd]), "refused", `${name} of ${index}`);
        assert.equal(g.client.ack(name, u64(index | 0x100)), "refused", `${name} of ${index}`);
      }
    }
    g.verifyAll();
    for (const name of ["SET_VRING_ENDIAN", "VRING_KICK"] as const) {
      assert.equal(g.client.ack(name, state(queues, 0)), "refused");
    }
    g.client[Symbol.dispose]();
    for (const index of wide) {
      for (const name of ["GET_VRING_BASE", "GET_VRING_BASE_SKIP_DRAIN"] as const) {
        using other = guest();
        other.client.send(name, state(index, 0));
        assert.ok(other.client.closed(), `${name} of ${index}`);
      }
    }
  },
);

row(
  "V2 a ring size that is no power of 2 up to 32768 is refused",
  { log: [/Cannot use a ring of 3 descriptors/, /Cannot change the size of vring 0 while/] },
  () => {
    using g = guest();
    const [first, second] = g.rings as [Ring, Ring];
    g.stop(second);
    for (const size of [0, 3, 48, 32769, 65535, 65536, 0x80000000, 0xffffffff]) {
      assert.equal(g.client.ack("SET_VRING_NUM", state(1, size)), "refused", `size ${size}`);
    }
    // The size of before is still in force.
    assert.equal(g.client.ack("SET_VRING_KICK", u64(1), [second.kickFd]), "ok");
    g.verify(second);
    assert.equal(g.client.ack("SET_VRING_NUM", state(0, 32)), "refused", "while started");
    assert.equal(g.client.ack("SET_VRING_BASE", state(0, 7)), "refused", "while started");
    g.verify(first);
  },
);

row("V3 SET_VRING_NUM many times takes no memory", {}, () => {
  using g = guest();
  g.stop(g.ring(1));
  const batch = Array.from({ length: 1000 }, (_, i) => [
    ...frame("SET_VRING_NUM", state(1, 1 << (i % 16))),
  ]);
  const block = Uint8Array.from(batch.flat());
  for (let i = 0; i < 100; i++) g.client.raw(block);
  assert.equal(g.client.askU64("GET_STATUS"), 0n);
  g.start(g.ring(1));
  g.verifyAll();
});

/** Ring addresses for a ring, some of them replaced. */
function addresses(
  ring: Ring,
  changes: Partial<Record<"descriptor" | "available" | "used", bigint>>,
) {
  return VringAddr.encode({ ...VringAddr.decode(ringAddresses(ring)), ...changes });
}

row(
  "V4 ring addresses outside the memory table are refused and the right ones still work",
  { log: [/is not in one memory region/, /must be aligned to 16, 2 and 4 bytes/, /beyond 2\^53/] },
  () => {
    using g = guest();
    const ring = g.ring(1);
    const firstEnd = BigInt(user(REGION_SIZE - 16) + 16);
    const lastEnd = BigInt(user(MEMORY_SIZE - 16) + 16);
    const cases: Parameters<typeof addresses>[1][] = [
      { descriptor: 0n },
      { available: 0n },
      { used: 0n },
      { descriptor: lastEnd },
      // The table's last descriptor, the index of a wish behind the ring: one byte too far.
      { descriptor: lastEnd - 16n * BigInt(ring.size) + 16n },
      { available: lastEnd - 6n - 2n * BigInt(ring.size) + 2n },
      { used: lastEnd - 6n - 8n * BigInt(ring.size) + 2n },
      // Across the end of the first region: the second one goes on elsewhere.
      { descriptor: firstEnd - 16n },
      { used: firstEnd - 8n },
      { descriptor: BigInt(user(ring.base)) + 1n },
      { descriptor: BigInt(user(ring.base)) + 8n },
      { available: BigInt(user(ring.base + AVAILABLE)) + 1n },
      { used: BigInt(user(ring.base + USED)) + 2n },
      { descriptor: 2n ** 64n - 16n },
      { used: 2n ** 63n },
      { available: 2n ** 53n },
      // Guest addresses are not user addresses.
      { descriptor: BigInt(ring.base) },
    ];
    for (const change of cases) {
      g.stop(ring);
      assert.ok(setUp(g, ring, addresses(ring, change)) !== "ok", `${Object.entries(change)}`);
      g.verify(g.ring(0));
      assert.equal(setUp(g, ring, ringAddresses(ring)), "ok", "the right addresses");
      ring.clear();
      g.restart(ring);
      g.verify(ring);
    }
    // To the last byte is not too far.
    g.stop(ring);
    const available = lastEnd - 6n - 2n * BigInt(ring.size);
    assert.equal(setUp(g, ring, addresses(ring, { available })), "ok");
  },
);

/** Sets a ring's addresses and kick. Returns the first outcome that is not "ok". */
function setUp(g: Guest, ring: Ring, payload: Uint8Array) {
  const outcome = g.client.ack("SET_VRING_ADDR", payload);
  if (outcome !== "ok") return outcome;
  return g.client.ack("SET_VRING_KICK", u64(ring.index), [ring.kickFd]);
}

row(
  "V5 messages in an unusual order have a defined outcome",
  { log: [/Cannot start vring/] },
  () => {
    type Step = "table" | "num" | "addr" | "kick" | "enable" | "base" | "get";
    const orders: Step[][] = [
      ["num", "addr", "table", "kick", "enable"],
      ["kick", "table", "num", "addr", "enable"],
      ["kick", "table", "addr", "num", "enable"],
      ["enable", "kick", "table", "num", "base", "addr"],
      ["get", "enable", "table", "addr", "num", "kick"],
      ["addr", "kick", "num", "enable", "get", "table"],
      ["num", "addr", "kick", "table", "enable", "get", "get"],
    ];
    for (const order of orders) {
      using g = guest({ until: "features" });
      const ring = g.ring(0);
      const steps: Record<Step, () => void> = {
        table: () => g.setMemory(),
        num: () => void g.client.ack("SET_VRING_NUM", state(0, ring.size)),
        base: () => g.must("SET_VRING_BASE", state(0, 0)),
        // What lets the ring run is refused as long as it cannot; the connection goes on.
        addr: () => void g.client.ack("SET_VRING_ADDR", ringAddresses(ring)),
        kick: () => void g.client.ack("SET_VRING_KICK", u64(0), [ring.kickFd]),
        enable: () => void g.client.ack("SET_VRING_ENABLE", state(0, 1)),
        get: () => assert.equal(g.stop(ring), 0),
      };
      for (const step of order) steps[step]();
      g.restart(ring);
      g.verify(ring);
    }
  },
);

row(
  "V6 an index that the ring cannot have is refused or breaks the ring",
  { log: [/Cannot start a split ring at index 65536/, /available index moved from 1000 to 0/] },
  () => {
    using g = guest();
    const ring = g.ring(1);
    g.stop(ring);
    for (const base of [65536, 0x10000, 0x80008000, 0xffffffff]) {
      assert.equal(g.client.ack("SET_VRING_BASE", state(1, base)), "refused", `base ${base}`);
    }
    ring.clear();
    assert.equal(g.client.ack("SET_VRING_BASE", state(1, 1000)), "ok");
    assert.equal(g.client.ack("SET_VRING_KICK", u64(1), [ring.kickFd]), "ok");
    assert.ok(ring.broken(), "the err descriptor is signalled");
    g.verify(g.ring(0));
    assert.equal(g.stop(ring), 1000, "a broken ring keeps its index");
    g.start(ring);
    g.verify(ring);
    // The index wraps at 16 bits.
    g.stop(ring);
    g.prepare(ring);
    ring.availableIndex = 65530;
    ring.seen = 0;
    g.must("SET_VRING_BASE", state(1, 65530));
    g.must("SET_VRING_KICK", u64(1), [ring.kickFd]);
    for (let i = 0; i < 10; i++) g.verify(ring);
    assert.equal(g.stop(ring), (65530 + 30) & 0xffff);
  },
);

row("V7 kicks and calls are replaced on a running ring and nothing is lost", {}, (program) => {
  using g = guest({ features: withoutEvents });
  const ring = g.ring(1);
  for (const replacement of ["new", "same", "none", "new"] as const) {
    using fresh = createEventFd();
    const without = replacement === "none";
    const kick = replacement === "new" ? fresh : ring.kickFd;
    const value = u64(without ? 0x101 : 1);
    g.must("SET_VRING_KICK", value, without ? [] : [kick]);
    const buffers = g.buffers(ring, { type: RequestType.FLUSH });
    ring.offer(ring.chain(0, buffers));
    if (!without) signal(kick.number);
    assert.ok(ring.complete(), `a ${replacement} kick`);
  }
  g.must("SET_VRING_KICK", u64(1), [ring.kickFd]);
  const held = program.holdings();
  for (let i = 0; i < 1000; i++) {
    using call = createEventFd();
    const buffers = g.buffers(ring, { type: RequestType.IN, length: 512 });
    ring.offer(ring.chain(0, buffers));
    ring.kick();
    g.client.send("SET_VRING_CALL", u64(1), { fds: [call] });
    // The driver waits for the descriptor it has now, whichever of the two came first.
    assert.ok(readable(call, 5000), `call ${i}`);
    assert.ok(ring.complete(), `completion ${i}`);
  }
  g.must("SET_VRING_CALL", u64(1), [ring.callFd]);
  assert.deepEqual(program.differences(held), []);
  g.verify(ring);
});

row("V10 a ring that is not enabled is left alone", { log: [/enable flag to 2/] }, (program) => {
  using g = guest();
  const ring = g.ring(1);
  for (const value of [2, 3, 0xffffffff]) {
    assert.equal(g.client.ack("SET_VRING_ENABLE", state(1, value)), "refused", `enable ${value}`);
  }
  g.verify(ring);
  g.must("SET_VRING_ENABLE", state(1, 0));
  const sector = 5000;
  const data = new Uint8Array(512).fill(0xa5);
  const before = ring.usedIndex;
  ring.offer(ring.chain(0, g.buffers(ring, { type: RequestType.OUT, sector, data })));
  ring.kick();
  g.verify(g.ring(0));
  g.must("SET_VRING_KICK", u64(1), [ring.kickFd]);
  assert.equal(ring.usedIndex, before, "nothing is completed");
  assert.equal(byteAt(program.image, sector * SECTOR_SIZE), 0, "nothing is written");
  g.must("SET_VRING_ENABLE", state(1, 1));
  assert.ok(ring.complete(), "the request is served once the ring is enabled");
  assert.equal(g.memory[ring.data + 16], Status.OK);
  assert.equal(byteAt(program.image, sector * SECTOR_SIZE), 0xa5);
});

function byteAt(path: string, offset: number): number {
  const file = openSync(path, "r");
  try {
    const byte = new Uint8Array(1);
    readSync(file, byte, 0, 1, offset);
    return byte[0]!;
  } finally {
    closeSync(file);
  }
}
