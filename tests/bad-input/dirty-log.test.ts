/** Dirty logs that cannot be, and marks that would lie outside of one. */
import assert from "node:assert/strict";
import { mask, RingFeature, VhostFeature } from "../../core/features.ts";
import { LogArea, VringAddr } from "../../core/payloads.ts";
import { ProtocolFeature, VRING_LOG } from "../../core/protocol.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { createMemfd, type Fd, Mapping } from "../../ffi/mod.ts";
import { u64 } from "./client.ts";
import { allRingFeatures, type Guest, MEMORY_SIZE, protocolMask, ringAddresses } from "./guest.ts";
import { unshareable, zeroDevice } from "./objects.ts";
import { serves, suite } from "./row.ts";

const { row, guest } = suite();
const PAGE = 4096;
const LOG_SIZE = MEMORY_SIZE / PAGE / 8;
const LOG_ALL = mask(VhostFeature.LOG_ALL);

const area = (size: number | bigint, offset: number | bigint = 0) =>
  LogArea.encode({ size: BigInt(size), offset: BigInt(offset) });

const kinds = [
  { kind: "split", packed: false },
  { kind: "packed", packed: true },
] as const;
const PACKED = mask(RingFeature.RING_PACKED);

const logging = (packed = false) =>
  guest({ packed, protocol: protocolMask | mask(ProtocolFeature.LOG_SHMFD) });

/** Sends SET_LOG_BASE. */
const setLog = (g: Guest, fd: Fd | number, size: number | bigint, offset: number | bigint = 0) =>
  g.client.ack("SET_LOG_BASE", area(size, offset), [fd]);

function setFeatures(g: Guest, packed: boolean, others = 0n): void {
  g.must("SET_FEATURES", u64(allRingFeatures | (packed ? PACKED : 0n) | others));
}

function startLogging(g: Guest, packed = false): void {
  setFeatures(g, packed, LOG_ALL);
  for (const ring of g.rings) logRing(g, ring.index, ring.base);
}

/** Has a ring's used part marked at a guest address. */
function logRing(g: Guest, index: number, log: number | bigint) {
  const fields = VringAddr.decode(ringAddresses(g.ring(index)));
  const payload = VringAddr.encode({ ...fields, flags: VRING_LOG, log: BigInt(log) });
  return g.client.ack("SET_VRING_ADDR", payload);
}

/** A log in a file with `guard` bytes before and behind it, which nobody may touch. */
class GuardedLog implements Disposable {
  readonly fd: Fd;
  readonly size: number;
  readonly guard: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #mapping: Mapping;

  constructor(size: number, guard = PAGE) {
    this.size = size;
    this.guard = guard;
    const length = size + 2 * guard;
    this.fd = createMemfd("bad-input-log", length);
    this.#mapping = new Mapping(this.fd, length);
    this.bytes = this.#mapping.windows[0]!.u8.subarray(0, length);
  }

  get marks(): number {
    return this.bytes.subarray(this.guard, this.guard + this.size).filter((byte) => byte !== 0)
      .length;
  }

  /** Bytes outside of the log that were changed. */
  get outside(): number {
    return this.bytes.filter((byte) => byte !== 0).length - this.marks;
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.fd.close();
  }
}

row(
  "M6 a log of size 0, of a size that wraps, or beyond its file is refused and the old one stays",
  {
    log: [
      /dirty log of 0 bytes/,
      /size of a dirty log 0x[0-9a-f]+: it is beyond 2\^53/,
      /offset of a dirty log 0x[0-9a-f]+: it is beyond 2\^53/,
      /Cannot map a dirty log of 512 bytes at offset \d+: the file has 8704/,
    ],
  },
  (program) => {
    using g = logging();
    using log = new GuardedLog(LOG_SIZE);
    assert.equal(setLog(g, log.fd, LOG_SIZE, log.guard), "ok");
    startLogging(g);
    const held = program.holdings();
    const big = 2n ** 64n;
    const wrong: [number | bigint, number | bigint][] = [
      [0, 0],
      [0, big - 1n],
      [1, log.bytes.length],
      [LOG_SIZE, log.bytes.length - LOG_SIZE + 1],
      [LOG_SIZE, big - 1n],
      [LOG_SIZE, big - BigInt(LOG_SIZE)],
      [LOG_SIZE, 2n ** 63n],
      [LOG_SIZE, 2n ** 53n - 1n],
      [big - 1n, 0],
      [big - BigInt(PAGE), PAGE],
      [2n ** 63n, 2n ** 63n],
      [2n ** 53n - 1n, 2n ** 53n - 1n],
      [2 ** 40, 0],
      [2 ** 31, 0],
    ];
    for (const [size, offset] of wrong) {
      assert.equal(setLog(g, log.fd, size, offset), "refused", `${size} at ${offset}`);
    }
    assert.deepEqual(program.differences(held), []);
    log.bytes.fill(0);
    g.verifyAll();
    assert.ok(log.marks > 0, "the log that was there is still marked");
    assert.equal(log.outside, 0);
  },
);

row("M6 what cannot be a log is refused", { log: [/no file of memory/] }, (program) => {
  using memfd = createMemfd("bad-input-log", PAGE);
  for (const size of [0, 8, 15, 17, 24]) {
    using g = logging();
    const outcome = g.client.ack("SET_LOG_BASE", new Uint8Array(size), [memfd]);
    assert.notEqual(outcome, "ok", `a payload of ${size} bytes`);
  }
  using g = logging();
  const held = program.holdings();
  const wrong = [...unshareable(program.image), zeroDevice()];
  wrong.forEach((fd, i) => {
    assert.equal(setLog(g, fd, LOG_SIZE), "refused", `descriptor ${i}`);
  });
  for (const fds of [[], [memfd, memfd]]) {
    assert.equal(g.client.ack("SET_LOG_BASE", area(512), fds), "refused");
  }
  assert.deepEqual(program.differences(held), []);
  for (const fd of wrong) fd.close();
  g.verifyAll();
});

for (const { kind, packed } of kinds) {
  row(
    `M6 a log that is too small for the guest's memory is marked as far as it goes (${kind})`,
    {},
    () => {
      using g = logging(packed);
      for (const size of [1, 7, 64, LOG_SIZE - 1]) {
        using log = new GuardedLog(size);
        assert.equal(setLog(g, log.fd, size, log.guard), "ok");
        startLogging(g, packed);
        g.verifyAll();
        assert.equal(log.outside, 0, `nothing is marked outside of ${size} bytes`);
      }
    },
  );

  row(
    `M6 a log is replaced 10000 times and nothing is left of the old ones (${kind})`,
    {},
    (program) => {
      using g = logging(packed);
      using log = new GuardedLog(LOG_SIZE);
      using other = createMemfd("bad-input-other", 2 ** 24);
      assert.equal(setLog(g, log.fd, LOG_SIZE, log.guard), "ok");
      startLogging(g, packed);
      const held = program.holdings();
      for (let i = 0; i < 10_000; i++) {
        const size = 1 + ((i * 7919) % 2 ** 20);
        assert.equal(setLog(g, other, size, (i * 104_729) % 2 ** 23), "ok");
        if (i % 1000 === 0) g.verifyAll();
      }
      assert.equal(setLog(g, log.fd, LOG_SIZE, log.guard), "ok");
      const left = program.holdings();
      assert.deepEqual(left.fds, held.fds);
      assert.equal(left.guestMaps, held.guestMaps, "old logs are unmapped");
      // Ranges of address space are kept for the next log, a few for each size.
      assert.ok(left.maps < held.maps + 100, `${left.maps} mappings, ${held.maps} before`);
      assert.ok(left.vmSize < held.vmSize + 2 ** 20, `${left.vmSize} KiB, ${held.vmSize} before`);
      log.bytes.fill(0);
      g.verifyAll();
      assert.ok(log.marks > 0);
      assert.equal(log.outside, 0);
    },
  );

  row(
    `M7 a ring whose log address is beyond the log is not marked outside of it (${kind})`,
    {},
    () => {
      using g = logging(packed);
      using log = new GuardedLog(LOG_SIZE);
      assert.equal(setLog(g, log.fd, LOG_SIZE, log.guard), "ok");
      setFeatures(g, packed, LOG_ALL);
      const end = LOG_SIZE * 8 * PAGE;
      for (const at of [
        end,
        end - 1,
        end + PAGE * PAGE,
        2 ** 45,
        2n ** 53n - 1n,
        2n ** 53n - 64n,
      ]) {
        assert.equal(logRing(g, 1, at), "ok", `${at}`);
        g.verifyAll();
        assert.equal(log.outside, 0, `${at}`);
      }
      assert.equal(logRing(g, 1, 2n ** 64n - 1n), "refused");
      assert.equal(logRing(g, 1, 2n ** 53n), "refused");
      g.verifyAll();
      assert.equal(log.outside, 0);
    },
  );

  row(`M7 buffers beyond the log are written and not marked outside of it (${kind})`, {}, () => {
    using g = logging(packed);
    // The first region only.
    using log = new GuardedLog(LOG_SIZE / 2);
    assert.equal(setLog(g, log.fd, LOG_SIZE / 2, log.guard), "ok");
    startLogging(g, packed);
    const ring = g.ring(1);
    const [header, , status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
    const from = MEMORY_SIZE / 2 - 3 * PAGE;
    const data = { address: from, length: 8 * PAGE, flags: 2 };
    const kept = g.memory.slice(from, from + data.length);
    ring.offer(ring.chain(0, [header!, data, status!]));
    ring.kick();
    assert.ok(ring.complete());
    assert.equal(g.memory[ring.data + 16], Status.OK);
    g.memory.set(kept, from);
    assert.equal(log.outside, 0);
    const last = log.bytes[log.guard + LOG_SIZE / 2 - 1]!;
    assert.equal(last >> 5, 7, "the last three pages of the log are marked");
  });

  row(
    `M6 LOG_ALL without a log, and a log without LOG_ALL, change nothing (${kind})`,
    {},
    (program) => {
      {
        using g = logging(packed);
        startLogging(g, packed);
        g.verifyAll();
        using log = new GuardedLog(LOG_SIZE);
        assert.equal(setLog(g, log.fd, LOG_SIZE, log.guard), "ok");
        setFeatures(g, packed);
        log.bytes.fill(0);
        g.verifyAll();
        assert.equal(log.marks, 0);
      }
      serves(program);
    },
  );
}
