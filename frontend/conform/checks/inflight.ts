/** Tracking of requests in flight in shared memory, and rows M8 and M9. */
import { Inflight } from "../../../core/payloads.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { createMemfd } from "../../../ffi/mod.ts";
import { type Check, expectEqual, fail } from "../check.ts";
import type { Area } from "../inflight-region.ts";
import {
  describeArea,
  Entry,
  entryAt,
  expectNoneMarked,
  give,
  Header,
  obtain,
  partBytes,
  partOf,
  QUEUE_SIZE,
  tracked,
  trackedProtocol,
  VERSION,
} from "../inflight-region.ts";
import type { Lane } from "../lane.ts";
import { featuresOf, packed, split } from "../ring-kinds.ts";
import { ask, expectDenied, expectTaken, M } from "../wire.ts";

const P = ProtocolFeature;
const SOURCE = "vhost-user: Inflight I/O tracking";

/** A region that the front-end made, with anything in it, is survived. */
function sanitized(name: string, title: string, spoil: (area: Area, lane: Lane) => void): Check {
  return {
    id: `inflight.M9-${name}`,
    title: `${title}: each head is submitted at most once, nothing else happens`,
    source: SOURCE,
    run(play) {
      play.needsReconnect();
      const { lane, area } = tracked(play);
      lane.run(4);
      spoil(area, lane);
      try {
        play.reconnect(lane, (frontend) => give(area, frontend));
        lane.run(4);
      } catch {
        // Refusing the region, or its ring, is right as well.
      }
      play.expectAlive();
    },
  };
}

export const inflight: readonly Check[] = [
  {
    id: "inflight.get",
    title: "GET_INFLIGHT_FD returns memory that is large enough for the queues",
    source: SOURCE,
    run(play) {
      play.needsProtocol(P.INFLIGHT_SHMFD);
      const { connection } = play.guest({ protocol: trackedProtocol });
      const { size, fd, offset } = obtain(play, connection, 1);
      const least = partBytes(split);
      if (size < least) fail(`at least ${least} bytes`, `${size}`);
      const file = fd.stat().size;
      if (file < offset + size) fail(`a file of ${offset + size} bytes`, `${file}`);
    },
  },
  {
    id: "inflight.zeroed",
    title: "Nothing is in flight in new memory",
    source: SOURCE,
    run(play) {
      play.needsProtocol(P.INFLIGHT_SHMFD);
      const lane = play.parked({ protocol: trackedProtocol });
      expectNoneMarked(obtain(play, lane.connection, lane.vrings.length), lane);
    },
  },
  {
    id: "inflight.tracks",
    title: "The region is initialised, follows the used index, and holds nothing once all is done",
    source: SOURCE,
    run(play) {
      const { lane, area } = tracked(play);
      lane.run(40, { depth: 8 });
      lane.stop();
      const field = (offset: number) => area.view.getUint16(partOf(area, lane) + offset, true);
      expectEqual("version", field(Header.version), VERSION);
      expectEqual("a queue size of", field(Header.size), QUEUE_SIZE);
      expectEqual("a used index of", field(Header.usedIndex), lane.vring.ring.shownUsedIndex);
      expectNoneMarked(area, lane);
    },
  },
  {
    id: "inflight.replay",
    title: "Requests that are marked in flight are carried out on the next connection, once each",
    source: SOURCE,
    run(play) {
      play.needsReconnect();
      const { lane, area } = tracked(play);
      lane.run(5);
      lane.stop();
      // As a back-end leaves it that is killed after it has taken these.
      const { ring } = lane.vring;
      const first = ring.availableIndex;
      for (let i = 0; i < 3; i++) lane.submit();
      ring.publish();
      const heads = [0, 1, 2].map((i) => availableHead(lane, first + i));
      heads.forEach((head, i) => {
        const entry = entryAt(area, lane, head);
        area.view.setUint8(entry, 1);
        area.view.setBigUint64(entry + Entry.counter, BigInt(1000 + i), true);
      });
      play.reconnect(lane, (frontend) => give(area, frontend));
      lane.finish();
      play.pause();
      expectEqual("a used index of", ring.shownUsedIndex, ring.usedIndex);
      lane.run(8);
    },
  },
  {
    id: "inflight.M8-zero",
    title: "GET_INFLIGHT_FD for no queues, or queues of size 0, is survived",
    source: SOURCE,
    run(play) {
      play.needsProtocol(P.INFLIGHT_SHMFD);
      for (const fields of [
        { queues: 0, queueSize: 64 },
        { queues: 1, queueSize: 0 },
      ]) {
        ask(play.greet(trackedProtocol), M.GET_INFLIGHT_FD, Inflight.encode(fields));
        play.close();
      }
      play.expectAlive();
    },
  },
  {
    id: "inflight.M8-huge",
    title: "GET_INFLIGHT_FD for 65535 queues of 65535 is refused or bounded",
    source: SOURCE,
    run(play) {
      play.needsProtocol(P.INFLIGHT_SHMFD);
      const request = Inflight.encode({ queues: 65535, queueSize: 65535 });
      ask(play.greet(trackedProtocol), M.GET_INFLIGHT_FD, request);
      play.expectAlive();
    },
  },
  {
    id: "inflight.M8-often",
    title: "GET_INFLIGHT_FD again and again frees the memory before",
    source: SOURCE,
    run(play) {
      play.needsProtocol(P.INFLIGHT_SHMFD);
      play.needsProcess();
      const connection = play.greet(trackedProtocol);
      const request = Inflight.encode({ queues: 1, queueSize: QUEUE_SIZE });
      ask(connection, M.GET_INFLIGHT_FD, request);
      const before = play.target.settledDescriptors();
      for (let i = 0; i < 500; i++) ask(connection, M.GET_INFLIGHT_FD, request);
      const after = play.target.settledDescriptors(before);
      if (after > before + 20) fail(`about ${before} open descriptors`, `${after}`);
    },
  },
  ...(
    [
      ["size", "is smaller than its queues need", { size: 32n }],
      ["beyond-file", "is larger than its file", { size: 2n ** 40n }],
      ["offset", "begins at an offset that wraps", { offset: 0xffff_ffff_ffff_f000n }],
      ["queues", "names more queues than the device has", { queues: 65535 }],
    ] as const
  ).map(
    ([name, title, change]): Check => ({
      id: `inflight.M9-${name}`,
      title: `SET_INFLIGHT_FD of memory that ${title} is refused`,
      source: SOURCE,
      run(play) {
        play.needsProtocol(P.INFLIGHT_SHMFD);
        using fd = createMemfd("ringside-inflight", partBytes(split));
        const payload = describeArea({ size: partBytes(split), offset: 0, queues: 1 }, change);
        expectDenied(play.greet(trackedProtocol), name, M.SET_INFLIGHT_FD, payload, [fd]);
        play.expectAlive();
      },
    }),
  ),
  {
    id: "inflight.M9-fresh",
    title: "Memory of version 0 is initialised",
    source: SOURCE,
    run(play) {
      play.needsProtocol(P.INFLIGHT_SHMFD);
      const lane = play.parked({ protocol: trackedProtocol, ringSize: QUEUE_SIZE });
      const queues = lane.vrings.length;
      const size = partBytes(split) * queues;
      const fd = play.keep(createMemfd("ringside-inflight", size));
      const payload = describeArea({ size, offset: 0, queues });
      expectTaken(lane.connection, "new memory", M.SET_INFLIGHT_FD, payload, [fd]);
      lane.start();
      lane.run(8);
    },
  },
  sanitized("all-in-flight", "Every entry marked in flight", (area, lane) => {
    for (let i = 0; i < QUEUE_SIZE; i++) area.view.setUint8(entryAt(area, lane, i), 255);
  }),
  sanitized("wild-batch", "A last batch head and next fields beyond the table", (area, lane) => {
    set(area, lane, Header.lastBatchHead, 60000);
    set(area, lane, Header.usedIndex, 12345);
    for (let i = 0; i < QUEUE_SIZE; i++) {
      area.view.setUint16(entryAt(area, lane, i) + Entry.next, 60000, true);
    }
  }),
  sanitized("loop", "A list of completions that is a loop", (area, lane) => {
    set(area, lane, Header.usedIndex, 0);
    for (let i = 0; i < QUEUE_SIZE; i++) {
      area.view.setUint16(entryAt(area, lane, i) + Entry.next, i, true);
    }
  }),
  sanitized("version", "A version that does not exist", (area, lane) => {
    set(area, lane, Header.version, 77);
  }),
  {
    id: "inflight.packed",
    title: "GET_INFLIGHT_FD returns memory that is large enough for packed queues",
    source: SOURCE,
    run(play) {
      play.needsProtocol(P.INFLIGHT_SHMFD);
      play.needsFeature(...packed.needs);
      const features = featuresOf(play, packed);
      const { connection } = play.guest({ protocol: trackedProtocol, features });
      const { size } = obtain(play, connection, 1, packed);
      const least = partBytes(packed);
      // DPDK adds up the fields of the header instead of taking its size.
      if (size < least - 64) fail(`at least ${least} bytes`, `${size}`);
    },
  },
];

/** Writes a field of a lane's part. */
function set(area: Area, lane: Lane, offset: number, value: number): void {
  area.view.setUint16(partOf(area, lane) + offset, value, true);
}

/** The head in an entry of the available ring. */
function availableHead({ frontend, vring }: Lane, index: number): number {
  const { place, size } = vring.ring;
  const [low, high] = frontend.memory.read(place.available + 4 + 2 * (index % size), 2);
  return low! | (high! << 8);
}
