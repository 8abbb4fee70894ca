import assert from "node:assert/strict";
import { mask, RingFeature } from "../../core/features.ts";
import { Iotlb } from "../../core/payloads.ts";
import { IotlbMessage } from "../../core/protocol.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { socketPair } from "../../ffi/mod.ts";
import type { Client } from "./client.ts";
import { allRingFeatures, Guest, MEMORY_SIZE, REGION_SIZE, regions } from "./guest.ts";
import type { Program } from "./program.ts";
import { full, suite } from "./row.ts";

const { row } = suite({ iommu: true });
const { MISS, UPDATE, INVALIDATE, ACCESS_FAIL } = IotlbMessage;
const PAGE = 4096;
const features = allRingFeatures | mask(RingFeature.ACCESS_PLATFORM);

interface Fields {
  readonly type: number;
  readonly iova?: number | bigint;
  readonly size?: number | bigint;
  readonly user?: number | bigint;
  readonly permission?: number;
}

/** Sends an IOTLB message; true when it is accepted. */
function send(client: Client, { type, iova = 0, size = PAGE, user = 0, permission = 3 }: Fields) {
  const payload = Iotlb.encode({
    iova: BigInt.asUintN(64, BigInt(iova)),
    size: BigInt(size),
    userAddress: BigInt(user),
    permission,
    type,
  });
  return client.ask("IOTLB_MSG", payload).every((byte) => byte === 0);
}

/** A guest whose rings lie at their user addresses and whose buffers at their guest addresses. */
function behindIommu({ socket }: Program): Guest {
  const guest = new Guest(socket, { features, until: "memory" });
  for (const { offset, user } of regions) {
    assert.ok(send(guest.client, { type: UPDATE, iova: user, size: REGION_SIZE, user }));
    assert.ok(send(guest.client, { type: UPDATE, iova: offset, size: REGION_SIZE, user }));
  }
  guest.startAll();
  return guest;
}

const user = regions[0].user;
const wrong: readonly (readonly [what: string, fields: Fields])[] = [
  ["outside the regions", { type: UPDATE, user: 0x1000 }],
  ["beyond the last region", { type: UPDATE, user: regions[1].user + REGION_SIZE }],
  ["partly outside", { type: UPDATE, user: user + REGION_SIZE - PAGE, size: PAGE + 1 }],
  ["before the first region", { type: UPDATE, user: user - 1 }],
  ["size 0", { type: UPDATE, user, size: 0 }],
  ["a size of 2^64 - 1", { type: UPDATE, user, size: 2n ** 64n - 1n }],
  ["a size of 2^53", { type: UPDATE, user, size: 2n ** 53n }],
  ["an I/O address that wraps", { type: UPDATE, user, iova: -PAGE, size: 2 * PAGE }],
  ["an I/O address beyond 2^53", { type: UPDATE, user, iova: 2n ** 53n }],
  ["a user address that wraps", { type: UPDATE, user: 2n ** 64n - 4096n, size: 2 * PAGE }],
  ["no permission", { type: UPDATE, user, permission: 0 }],
  ["permission 4", { type: UPDATE, user, permission: 4 }],
  ["permission 255", { type: UPDATE, user, permission: 255 }],
  ["an invalidation that wraps", { type: INVALIDATE, iova: -PAGE, size: 2 * PAGE }],
  ["an invalidation of nothing", { type: INVALIDATE, iova: PAGE, size: 0 }],
  ...[MISS, ACCESS_FAIL, 0, 5, 6, 7, 255].map((type) => [`type ${type}`, { type, user }] as const),
];

row(
  "M13 IOTLB messages that cannot be are refused and change nothing",
  { log: [/not in the memory regions/, /with permission 4/, /message of type 255/] },
  (program) => {
    using g = behindIommu(program);
    for (const [what, fields] of wrong) {
      assert.equal(send(g.client, { iova: 0, ...fields }), false, what);
    }
    g.verifyAll();
  },
);

row("M13 IOTLB messages are refused where no IOMMU is negotiated", {}, ({ socket }) => {
  using g = new Guest(socket);
  assert.equal(send(g.client, { type: UPDATE, user }), false);
  assert.equal(send(g.client, { type: INVALIDATE }), false);
  g.verifyAll();
});

row("M13 entries that overlap replace each other, at any place and of any size", {}, (program) => {
  using g = behindIommu(program);
  const [ring] = g.rings;
  const far = 2 ** 40;
  let random = 1;
  const next = (limit: number) => {
    random = (random * 48_271) % 0x7fffffff;
    return random % limit;
  };
  for (let i = 0; i < (full ? 20_000 : 2000); i++) {
    const at = next(REGION_SIZE / 2);
    const size = 1 + next(i % 2 === 0 ? 16 * PAGE : REGION_SIZE / 2);
    const type = i % 3 === 2 ? INVALIDATE : UPDATE;
    const target = user + next(REGION_SIZE - size);
    assert.ok(
      send(g.client, { type, iova: far + at, size, user: target, permission: 1 + (i % 3) }),
    );
  }
  // What the last one says counts: the data's page is another one now.
  const page = ring!.data + PAGE;
  const other = ring!.data + 2 * PAGE;
  g.memory.fill(0x55, other, other + PAGE);
  assert.ok(send(g.client, { type: UPDATE, iova: page, user: user + other }));
  g.memory.fill(0xaa, page, page + PAGE);
  assert.equal(g.io(ring!, { type: RequestType.OUT, sector: 0, data: new Uint8Array(512) }), 0);
  assert.equal(g.io(ring!, { type: RequestType.IN, sector: 0, length: 512 }), Status.OK);
  assert.ok(g.memory.subarray(other, other + 512).every((byte) => byte === 0x55));
});

row("M13 rings and buffers that are invalidated while in use come back", {}, (program) => {
  using g = behindIommu(program);
  for (let i = 0; i < (full ? 500 : 50); i++) {
    assert.ok(send(g.client, { type: INVALIDATE, iova: 0, size: i % 2 === 0 ? 0 : MEMORY_SIZE }));
    for (const { offset, user: to } of regions) {
      assert.ok(send(g.client, { type: UPDATE, iova: offset, size: REGION_SIZE, user: to }));
      assert.ok(send(g.client, { type: UPDATE, iova: to, size: REGION_SIZE, user: to }));
    }
    g.verifyAll();
  }
});

for (const asked of [false, true]) {
  const how = asked ? "that nobody answers" : "without a channel to ask on";
  row(
    `M13 a miss ${how} breaks its queue after 10 s, and no other`,
    { log: [/I\/O address 0x0 got no translation for reading within 10000 ms .*queue=0/] },
    (program) => {
      using g = behindIommu(program);
      const [ours, theirs] = socketPair();
      if (asked) g.must("SET_BACKEND_REQ_FD", undefined, [theirs]);
      theirs.close();
      const [ring] = g.rings;
      const begun = performance.now();
      assert.ok(send(g.client, { type: INVALIDATE, iova: 0, size: PAGE }));
      g.header(0, RequestType.FLUSH);
      ring!.offer(ring!.chain(0, [{ address: 0, length: 16 }]));
      ring!.kick();
      while (!ring!.broken(0)) {
        assert.ok(performance.now() - begun < 30_000, "the queue breaks");
        g.verify(g.ring(1));
      }
      assert.ok(performance.now() - begun > 9000);
      assert.ok(send(g.client, { type: UPDATE, iova: 0, user }));
      g.restart(ring!);
      g.verifyAll();
      ours.close();
    },
  );
}
