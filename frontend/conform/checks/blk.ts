/** Block devices (virtio 1.3, 5.2). */
import { has, mask, RingFeature } from "../../../core/features.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import {
  BlkConfigSpace,
  BlkFeature,
  BlkRequest,
  BlkStatus,
  SECTOR,
} from "../../drivers/blk-wire.ts";
import { WRITE } from "../../ring-options.ts";
import { type Check, expectEqual, fail, notOffered } from "../check.ts";
import { blkRequest, SCRATCH_SECTORS, sectorPattern } from "../exercises.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { linked, offerChain } from "../raw-ring.ts";

const REQUEST = "virtio 1.3 5.2.6";
const DEVICE = "virtio 1.3 5.2.6.2";
const CONFIG = "virtio 1.3 5.2.4";

const names = Object.fromEntries(Object.entries(BlkStatus).map(([name, value]) => [value, name]));

/** A lane whose driver accepts these features, where they are offered. */
function start(play: Play, ...features: readonly number[]): Lane {
  const wanted = play.wantedFeatures() | mask(...features);
  return play.running({ features: wanted });
}

function config(play: Play, lane: Lane) {
  play.needsProtocol(ProtocolFeature.CONFIG);
  const bytes = lane.frontend.getConfig(0, BlkConfigSpace.size);
  const short = bytes ?? lane.frontend.getConfig(0, 36) ?? fail("a config space", "none");
  const whole = new Uint8Array(BlkConfigSpace.size);
  whole.set(short);
  return BlkConfigSpace.decode(whole);
}

function writable(lane: Lane): void {
  if (has(lane.frontend.features, BlkFeature.RO)) notOffered("writing: the disk is read-only");
}

/** A disk that can be written, and take the requests that come with `feature`. */
function erasing(play: Play, feature: number): Lane {
  play.needsFeature(feature);
  const lane = start(play, feature);
  writable(lane);
  return lane;
}

/** Carries a request out. Returns its status, and its data without that. */
function request(lane: Lane, out: Uint8Array, room: number) {
  const answer = lane.exchange(out, room + 1);
  const { written } = lane;
  // The status is the last byte of the chain, wherever the used length ends.
  return { status: lane.answer(room + 1)[room]!, written, data: answer.subarray(0, room) };
}

function expectStatus(seen: number, ...allowed: readonly number[]): void {
  if (allowed.includes(seen)) return;
  fail(allowed.map((status) => names[status]).join(" or "), names[seen] ?? `status ${seen}`);
}

const { OK, IOERR, UNSUPP } = BlkStatus;
const { IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES } = BlkRequest;

/** A request that cannot be carried out has this status, and the disk serves the next one. */
function refused(
  id: string,
  title: string,
  make: (play: Play, lane: Lane) => { out: Uint8Array; room: number },
  ...allowed: readonly number[]
): Check {
  return {
    id: `blk.${id}`,
    title,
    source: DEVICE,
    run(play) {
      const lane = start(play);
      const { out, room } = make(play, lane);
      expectStatus(request(lane, out, room).status, ...allowed);
      lane.run(2);
    },
  };
}

const range = (sector: number, sectors: number, flags = 0): Uint8Array => {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return bytes;
};

const same = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i]);

export const blk: readonly Check[] = [
  {
    id: "blk.capacity",
    title: "Config space has a capacity, and a block size that is a power of 2",
    source: CONFIG,
    run(play) {
      const lane = start(play, BlkFeature.BLK_SIZE);
      const { capacity, blockSize } = config(play, lane);
      if (capacity === 0n) fail("a capacity", "0");
      if (!has(lane.frontend.features, BlkFeature.BLK_SIZE)) return;
      if (blockSize < 512 || (blockSize & (blockSize - 1)) !== 0) {
        fail("a power of 2 from 512 on", `${blockSize}`);
      }
    },
  },
  {
    id: "blk.queues",
    title: "Config space names at least one queue and no more than GET_QUEUE_NUM",
    source: CONFIG,
    run(play) {
      play.needsFeature(BlkFeature.MQ);
      play.needsProtocol(ProtocolFeature.MQ);
      const { queues } = config(play, start(play, BlkFeature.MQ));
      const most = play.offer.queues!;
      if (queues < 1 || queues > most) fail(`1 to ${most}`, `${queues}`);
    },
  },
  {
    id: "blk.write-read",
    title: "What is written is read, in sectors and as a whole",
    source: REQUEST,
    run(play) {
      const lane = start(play);
      writable(lane);
      const data = Uint8Array.from({ length: 4 * SECTOR }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
      const write = request(lane, blkRequest(OUT, 8, data.subarray(0, 2 * SECTOR)), 0);
      expectStatus(write.status, OK);
      const second = request(lane, blkRequest(OUT, 10, data.subarray(2 * SECTOR)), 0);
      expectStatus(second.status, OK);
      const { status, data: got } = request(lane, blkRequest(IN, 8), 4 * SECTOR);
      expectStatus(status, OK);
      if (!same(got, data)) fail("the data that was written", "other data");
      for (let i = 8; i < 12; i++) request(lane, blkRequest(OUT, i, sectorPattern(i)), 0);
    },
  },
  {
    id: "blk.used-length",
    title: "The used length counts data and status of a read, only the status of a write",
    source: "virtio 1.3 2.7.8",
    run(play) {
      const lane = start(play);
      expectEqual("a read's length of", request(lane, blkRequest(IN, 0), SECTOR).written, 513);
      writable(lane);
      const write = request(lane, blkRequest(OUT, 0, sectorPattern(0)), 0);
      expectEqual("a write's length of", write.written, 1);
    },
  },
  {
    id: "blk.persists",
    title: "What was written and flushed is there for the next session, and the next process",
    source: "virtio 1.3 5.2.6.2",
    run(play) {
      play.needsReconnect();
      const lane = start(play, BlkFeature.FLUSH);
      writable(lane);
      const data = new Uint8Array(SECTOR).fill(0xc3);
      expectStatus(request(lane, blkRequest(OUT, 60, data), 0).status, OK);
      if (has(lane.frontend.features, BlkFeature.FLUSH)) {
        expectStatus(request(lane, blkRequest(FLUSH, 0), 0).status, OK);
      }
      play.close();
      const reader = play.parked();
      reader.frontend.startVrings(reader.vrings, [0]);
      const { data: got } = request(reader, blkRequest(IN, 60), SECTOR);
      if (!same(got, data)) fail("the data that was written", "other data");
    },
  },
  {
    id: "blk.flush",
    title: "FLUSH succeeds where it is offered",
    source: REQUEST,
    run(play) {
      play.needsFeature(BlkFeature.FLUSH);
      const lane = start(play, BlkFeature.FLUSH);
      expectStatus(request(lane, blkRequest(FLUSH, 0), 0).status, OK);
    },
  },
  {
    id: "blk.get-id",
    title: "GET_ID returns 20 bytes, or is unsupported",
    source: REQUEST,
    run(play) {
      const lane = start(play);
      const { status, written } = request(lane, blkRequest(GET_ID, 0), 20);
      expectStatus(status, OK, UNSUPP);
      if (status === OK) expectEqual("a used length of", written, 21);
    },
  },
  {
    id: "blk.B2-short-id",
    title: "GET_ID into fewer than 20 bytes ends in a status and no crash",
    source: REQUEST,
    run(play) {
      const lane = start(play);
      expectStatus(request(lane, blkRequest(GET_ID, 0), 8).status, OK, IOERR, UNSUPP);
      lane.run(2);
    },
  },
  refused(
    "B2-unknown-type",
    "A request of an unknown type is unsupported",
    () => ({ out: blkRequest(99, 0), room: SECTOR }),
    UNSUPP,
  ),
  refused(
    "B1-beyond-end",
    "A read beyond the end of the disk fails",
    (play, lane) => ({ out: blkRequest(IN, config(play, lane).capacity), room: SECTOR }),
    IOERR,
  ),
  refused(
    "B1-across-end",
    "A read across the end of the disk fails",
    (play, lane) => ({ out: blkRequest(IN, config(play, lane).capacity - 1n), room: 2 * SECTOR }),
    IOERR,
  ),
  refused(
    "B1-sector-overflow",
    "A read at sector 2^64-1 fails",
    () => ({ out: blkRequest(IN, 0xffff_ffff_ffff_ffffn), room: SECTOR }),
    IOERR,
  ),
  refused(
    "B1-unaligned-read",
    "A read of less than a sector fails",
    () => ({ out: blkRequest(IN, 0), room: 100 }),
    IOERR,
    UNSUPP,
  ),
  refused(
    "B1-unaligned-write",
    "A write of less than a sector fails",
    () => ({ out: blkRequest(OUT, 0, new Uint8Array(100)), room: 0 }),
    IOERR,
    UNSUPP,
  ),
  {
    id: "blk.B2-read-only",
    title: "A read-only disk refuses to write",
    source: DEVICE,
    run(play) {
      play.needsFeature(BlkFeature.RO);
      const lane = start(play);
      expectStatus(request(lane, blkRequest(OUT, 0, sectorPattern(0)), 0).status, IOERR);
    },
  },
  {
    id: "blk.write-zeroes",
    title: "WRITE_ZEROES makes sectors zeros, and leaves those beside them",
    source: REQUEST,
    run(play) {
      const lane = erasing(play, BlkFeature.WRITE_ZEROES);
      expectStatus(request(lane, blkRequest(WRITE_ZEROES, 0, range(21, 2)), 0).status, OK);
      const { data } = request(lane, blkRequest(IN, 20), 4 * SECTOR);
      const zeros = data.subarray(SECTOR, 3 * SECTOR).every((byte) => byte === 0);
      if (!zeros) fail("zeros", "other data");
      const before = same(data.subarray(0, SECTOR), sectorPattern(20));
      const after = same(data.subarray(3 * SECTOR), sectorPattern(23));
      if (!before || !after) fail("the sectors beside as they were", "other data");
      for (const i of [21, 22]) request(lane, blkRequest(OUT, i, sectorPattern(i)), 0);
    },
  },
  {
    id: "blk.B3-discard-flags",
    title: "DISCARD with unknown flags is unsupported",
    source: DEVICE,
    run(play) {
      const lane = erasing(play, BlkFeature.DISCARD);
      const out = blkRequest(DISCARD, 0, range(SCRATCH_SECTORS, 8, 0x80));
      expectStatus(request(lane, out, 0).status, UNSUPP);
    },
  },
  {
    id: "blk.B3-discard-size",
    title: "DISCARD whose data is no multiple of 16 bytes fails",
    source: DEVICE,
    run(play) {
      const lane = erasing(play, BlkFeature.DISCARD);
      const out = blkRequest(DISCARD, 0, new Uint8Array(17));
      expectStatus(request(lane, out, 0).status, IOERR, UNSUPP);
      lane.run(2);
    },
  },
  {
    id: "blk.B3-discard-beyond",
    title: "DISCARD beyond the end of the disk fails",
    source: DEVICE,
    run(play) {
      const lane = erasing(play, BlkFeature.DISCARD);
      const end = Number(config(play, lane).capacity);
      expectStatus(request(lane, blkRequest(DISCARD, 0, range(end, 8)), 0).status, IOERR, UNSUPP);
    },
  },
  {
    id: "blk.R6-short-header",
    title: "A request of 8 bytes harms nothing",
    source: REQUEST,
    run(play) {
      const lane = start(play);
      const at = lane.frontend.memory.allocate(4096);
      const status = { address: at + 64, length: 1, flags: WRITE };
      offerChain(lane, linked([{ address: at, length: 8 }, status]));
      lane.forceKick();
      play.pause(20);
      play.expectAlive();
    },
  },
  {
    id: "blk.queues-together",
    title: "All queues work at the same time",
    source: "virtio 1.3 5.2.2",
    run(play) {
      const count = Math.min(play.offer.queues ?? 1, 4);
      if (count < 2) notOffered("more than one queue");
      const features = play.wantedFeatures() | mask(BlkFeature.MQ, RingFeature.EVENT_IDX);
      const lane = play.running({ features });
      const lanes = [lane];
      for (let index = 1; index < count; index++) {
        const exercise = { ...lane.exercise, vrings: index + 1, queue: index };
        lanes.push(play.further(lane.frontend, exercise));
      }
      for (let round = 0; round < 50; round++) {
        for (const each of lanes) {
          for (let i = 0; i < 8; i++) each.submit();
          each.publish();
        }
        for (const each of lanes) each.finish();
      }
    },
  },
];
