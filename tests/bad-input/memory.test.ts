import assert from "node:assert/strict";
import { test } from "node:test";
import { Region } from "../../core/payloads.ts";
import { MAX_MEM_SLOTS } from "../../core/protocol.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { createMemfd, libc, O_RDWR, openFile } from "../../ffi/mod.ts";
import { sleep, u64 } from "./client.ts";
import {
  defaultTable,
  Guest,
  memRegion,
  memTable,
  REGION_SIZE,
  type RegionFields,
  regions,
  ringAddresses,
  state,
} from "./guest.ts";
import { unshareable, zeroDevice } from "./objects.ts";
import { Program } from "./program.ts";
import { Ring, WRITE } from "./ring.ts";
import { full, suite, TIME_LIMIT } from "./row.ts";

const { row, guest } = suite();
const PAGE = 4096;

/** A region away from the default ones. */
const FAR = { guest: 2 ** 40, user: 2 ** 45, size: 16 * PAGE } as const;

row(
  "M1 a memory table whose count, size and descriptors disagree is refused",
  {
    log: [
      /Cannot use 9 memory regions: 8 at most/,
      /Cannot use 4294967295 memory regions/,
      /SET_MEM_TABLE names 2 regions with 2 descriptors in 40 bytes, not 72/,
      /The ring cannot go on \(queue=0, reason=Cannot start vring 0: .* not in one memory region/,
    ],
  },
  () => {
    using g = guest();
    const fds = [g.memfd, g.memfd];
    for (const count of [9, 0xffff, 0x80000000, 0xffffffff, 0, 1, 3, 8]) {
      const outcome = g.client.ack("SET_MEM_TABLE", memTable(defaultTable, count), fds);
      assert.equal(outcome, "refused", `${count} regions for two`);
    }
    assert.equal(g.client.ack("SET_MEM_TABLE", memTable([defaultTable[0]!], 2), fds), "refused");
    const cut = memTable(defaultTable).subarray(0, 71);
    assert.equal(g.client.ack("SET_MEM_TABLE", cut, fds), "refused");
    g.verifyAll();
    // An empty table is a table: the rings are without memory until the next one.
    g.must("SET_MEM_TABLE", memTable([]));
    assert.ok(g.ring(0).broken() && g.ring(1).broken());
    g.setMemory();
    for (const ring of g.rings) g.restart(ring);
    g.verifyAll();
  },
);

const impossible: readonly (readonly [what: string, region: RegionFields])[] = [
  ["size 0", { ...FAR, size: 0 }],
  ["a size of 2^64 - 1", { ...FAR, size: 2n ** 64n - 1n }],
  ["a size of 2^53", { ...FAR, size: 2n ** 53n }],
  ["a guest address that wraps", { ...FAR, guest: 2n ** 64n - BigInt(PAGE) }],
  ["a guest address beyond 2^53", { ...FAR, guest: 2n ** 53n - BigInt(PAGE) }],
  ["a user address that wraps", { ...FAR, user: 2n ** 64n - BigInt(PAGE) }],
  ["an offset that wraps", { ...FAR, offset: 2n ** 64n - BigInt(PAGE) }],
  ["an offset beyond the file", { ...FAR, offset: 2 ** 30 }],
  ["an end beyond the file", { ...FAR, offset: 2 * REGION_SIZE - 15 * PAGE }],
  ["a file smaller by a byte", { ...FAR, size: 2 * REGION_SIZE + 1 }],
];

row(
  "M2 a region that cannot be is refused and its descriptor closed",
  { log: [/memory region of size 0/, /beyond 2\^53/, /the file has 16777216/] },
  (program) => {
    using g = guest();
    const held = program.holdings();
    for (const [what, region] of impossible) {
      assert.equal(g.client.ack("ADD_MEM_REG", memRegion(region), [g.memfd]), "refused", what);
      const bare = memRegion(region).subarray(8);
      assert.equal(g.client.ack("ADD_MEM_REG", bare, [g.memfd]), "refused", what);
      const whole = memTable([...defaultTable, region]);
      const fds = [g.memfd, g.memfd, g.memfd];
      assert.equal(g.client.ack("SET_MEM_TABLE", whole, fds), "refused", what);
    }
    const odd = memRegion(FAR).subarray(0, Region.size + 4);
    assert.equal(g.client.ack("ADD_MEM_REG", odd, [g.memfd]), "refused", "36 bytes");
    g.verifyAll();
    assert.deepEqual(program.differences(held), []);
  },
);

row("M2 rings whose memory is not aligned are refused", { log: [/not aligned/] }, () => {
  using g = guest();
  const offset = 8 * PAGE + 1;
  const size = 32 * PAGE;
  g.must("ADD_MEM_REG", memRegion({ ...FAR, size, offset }), [g.memfd]);
  const ring = g.ring(1);
  g.stop(ring);
  const payload = ringAddresses(ring);
  const view = new DataView(payload.buffer, payload.byteOffset);
  [8, 16, 24].forEach((at, i) => {
    view.setBigUint64(at, BigInt(FAR.user + i * 8 * PAGE), true);
  });
  g.client.ack("SET_VRING_ADDR", payload);
  assert.equal(g.client.ack("SET_VRING_KICK", u64(1), [ring.kickFd]), "refused");
  g.restart(ring);
  g.verifyAll();
});

row(
  "M2 regions larger than any memory leave the address space as it was",
  { log: [/Cannot use 0x120000000000 bytes of guest memory: 0x100000000000 at most/] },
  () => {
    using g = guest();
    const huge = (size: number, i = 0) => ({
      ...FAR,
      guest: 2 ** 50 + i * size,
      user: 2 ** 51 + i * size,
      size,
    });
    for (let i = 0; i < 100; i++) {
      const size = 2 ** 41 + i * 2 ** 30;
      using memfd = createMemfd("bad-input-huge", size);
      g.must("ADD_MEM_REG", memRegion(huge(size)), [memfd]);
      g.must("REM_MEM_REG", memRegion(huge(size)));
    }
    using memfd = createMemfd("bad-input-huge", 2 ** 41);
    const many = Array.from({ length: 8 }, (_, i) => huge(2 ** 41, i));
    g.must("SET_MEM_TABLE", memTable([]));
    for (const region of many) g.must("ADD_MEM_REG", memRegion(region), [memfd]);
    const ninth = memRegion(huge(2 ** 41, 8));
    assert.equal(g.client.ack("ADD_MEM_REG", ninth, [memfd]), "refused");
    g.setMemory();
    for (const ring of g.rings) g.restart(ring);
    g.verifyAll();
  },
);

row(
  "M3 regions that overlap are refused",
  { log: [/it overlaps the one at/, /its user addresses overlap those of the region at/] },
  (program) => {
    using g = guest();
    const held = program.holdings();
    const size = 16 * PAGE;
    const [low] = regions;
    const overlaps: RegionFields[] = [
      { ...FAR, guest: 0 },
      { ...FAR, guest: 2 * REGION_SIZE - PAGE },
      { ...FAR, guest: REGION_SIZE - PAGE },
      { ...FAR, user: low.user },
      { ...FAR, user: low.user - size + 1 },
      { ...FAR, user: low.user + REGION_SIZE - 1 },
    ];
    for (const region of overlaps) {
      const add = g.client.ack("ADD_MEM_REG", memRegion(region), [g.memfd]);
      assert.equal(add, "refused", JSON.stringify(region));
      const fds = [g.memfd, g.memfd, g.memfd];
      const set = g.client.ack("SET_MEM_TABLE", memTable([...defaultTable, region]), fds);
      assert.equal(set, "refused", JSON.stringify(region));
    }
    g.verifyAll();
    assert.deepEqual(program.differences(held), []);
    // Neighbours do not overlap.
    const next = { ...FAR, guest: 2 * REGION_SIZE, user: low.user + REGION_SIZE };
    g.must("ADD_MEM_REG", memRegion(next), [g.memfd]);
    g.verifyAll();
  },
);

row(
  "M4 regions come and go up to the limit of slots",
  { log: [/all 509 slots are in use/, /Cannot remove the region of .* there is none/] },
  (program) => {
    using g = guest();
    assert.equal(g.client.askU64("GET_MAX_MEM_SLOTS"), BigInt(MAX_MEM_SLOTS));
    const held = program.holdings();
    const slot = (i: number) => ({
      guest: FAR.guest + i * PAGE,
      user: FAR.user + 2 * i * PAGE,
      size: PAGE,
      offset: (100 + i) * PAGE,
    });
    const count = MAX_MEM_SLOTS - defaultTable.length;
    for (let i = 0; i < count; i++) g.must("ADD_MEM_REG", memRegion(slot(i)), [g.memfd]);
    assert.equal(g.client.ack("ADD_MEM_REG", memRegion(slot(count)), [g.memfd]), "refused");
    assert.equal(g.client.ack("ADD_MEM_REG", memRegion(slot(3)), [g.memfd]), "refused");
    g.verifyAll();
    readInto(g, g.ring(1), FAR.guest, count * PAGE);
    for (const change of [{ guest: 1 }, { user: 1 }, { size: 2 * PAGE }]) {
      const unknown = memRegion({ ...slot(3), ...change });
      assert.equal(g.client.ack("REM_MEM_REG", unknown), "refused", JSON.stringify(change));
    }
    for (let i = count - 1; i >= 0; i--) {
      // The offset does not matter, and a descriptor that comes along is closed.
      const region = memRegion({ ...slot(i), offset: i % 2 });
      g.must("REM_MEM_REG", region, i % 3 === 0 ? [g.memfd] : []);
    }
    assert.equal(g.client.ack("REM_MEM_REG", memRegion(slot(0))), "refused", "removed twice");
    g.verifyAll();
    assert.deepEqual(program.differences(held), []);
  },
);

/** Reads from the disk into guest memory that only some regions have. */
function readInto(g: Guest, ring: Ring, address: number, length: number): void {
  const [header, , status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
  ring.offer(ring.chain(0, [header!, { address, length, flags: WRITE }, status!]));
  ring.kick();
  assert.ok(ring.complete());
  assert.equal(g.memory[ring.data + 16], Status.OK);
}

row(
  "M4 a region taken away under a ring ends that ring alone",
  {
    log: [
      /The ring cannot go on \(queue=2, reason=Cannot start vring 2: .* not in one memory region/,
    ],
  },
  () => {
    using g = guest();
    const memfd = createMemfd("bad-input-extra", REGION_SIZE);
    const region = { guest: 2 ** 40, size: REGION_SIZE, user: 2 ** 44 };
    g.must("ADD_MEM_REG", memRegion(region), [memfd]);
    using ring = new Ring(2, 64, g.view);
    g.prepare(ring);
    const payload = ringAddresses(ring);
    const view = new DataView(payload.buffer, payload.byteOffset);
    [8, 16, 24].forEach((at, i) => {
      view.setBigUint64(at, BigInt(region.user + i * 0x4000), true);
    });
    g.must("SET_VRING_ADDR", payload);
    g.must("SET_VRING_KICK", u64(2), [ring.kickFd]);
    g.must("SET_VRING_ENABLE", state(2, 1));
    ring.kick();
    g.must("REM_MEM_REG", memRegion(region));
    assert.ok(ring.broken(), "the err descriptor is signalled");
    ring.kick();
    g.verifyAll();
    memfd.close();
    g.restart(ring);
    g.verify(ring);
  },
);

row(
  "M5 what cannot be shared memory is refused",
  { log: [/mmap failed: permission denied/, /the file has 0/] },
  (program) => {
    using g = guest();
    const held = program.holdings();
    const wrong = unshareable(program.image);
    wrong.forEach((fd, i) => {
      const outcome = g.client.ack("ADD_MEM_REG", memRegion(FAR), [fd]);
      assert.equal(outcome, "refused", `descriptor ${i}`);
      const whole = memTable([...defaultTable, FAR]);
      const replaced = g.client.ack("SET_MEM_TABLE", whole, [g.memfd, g.memfd, fd]);
      assert.equal(replaced, "refused", `descriptor ${i}`);
    });
    g.verifyAll();
    assert.deepEqual(program.differences(held), []);
    for (const fd of wrong) fd.close();
    // Memory without a file behind it is odd but usable.
    using zero = zeroDevice();
    const outcome = g.client.ack("ADD_MEM_REG", memRegion(FAR), [zero]);
    if (outcome === "ok") readInto(g, g.ring(1), FAR.guest, FAR.size);
    g.verifyAll();
  },
);

row("M5 a memfd cannot be truncated once it is guest memory", {}, () => {
  using g = guest();
  assert.equal(libc.ftruncate(g.memfd.number, PAGE), -1);
  g.verifyAll();
});

row("M5 buffers in memory that was truncated fail", { log: [/errno=14/] }, (program) => {
  using g = guest();
  using file = openFile(`${program.image}.memory`, O_RDWR | 0o100);
  assert.equal(libc.ftruncate(file.number, FAR.size), 0);
  g.must("ADD_MEM_REG", memRegion(FAR), [file]);
  const ring = g.ring(1);
  readInto(g, ring, FAR.guest, FAR.size);
  // Sealing is for memfds: a front-end can take back the pages of an ordinary file.
  assert.equal(libc.ftruncate(file.number, 0), 0);
  sleep(1);
  const [header, , status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
  const data = { address: FAR.guest, length: FAR.size, flags: WRITE };
  ring.offer(ring.chain(0, [header!, data, status!]));
  ring.kick();
  assert.ok(ring.complete());
  assert.equal(g.memory[ring.data + 16], Status.IOERR);
  g.verifyAll();
});

test("M4 regions of all sizes leave few mappings behind", { timeout: TIME_LIMIT }, () => {
  const program = new Program();
  try {
    using g = new Guest(program.socket);
    const held = program.holdings();
    const count = full ? 500 : 100;
    using memfd = createMemfd("bad-input-sizes", 2 ** 32);
    for (let pages = 1; pages < 2 ** 18; pages = Math.ceil(pages * 1.4)) {
      const size = pages * PAGE;
      const added = Array.from({ length: count }, (_, i) => ({
        guest: 2 ** 41 + 2 * i * size,
        user: 2 ** 45 + 2 * i * size,
        size,
      }));
      for (const region of added) g.must("ADD_MEM_REG", memRegion(region), [memfd]);
      for (const region of added) g.must("REM_MEM_REG", memRegion(region));
    }
    g.verifyAll();
    // A process may have some 65 000 mappings and 128 TiB of addresses. Ranges are kept for reuse.
    const { maps, vmSize, fds } = program.holdings();
    assert.ok(maps < held.maps + 1000, `${maps} mappings, ${held.maps} before`);
    assert.ok(vmSize < held.vmSize + 2 ** 31, `${vmSize} KiB of addresses, ${held.vmSize} before`);
    assert.deepEqual(fds, held.fds);
  } finally {
    program.stop();
  }
});
