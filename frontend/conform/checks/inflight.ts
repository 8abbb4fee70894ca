/** Tracking of requests in flight in shared memory, and rows M8 and M9. */
import { has, mask, RingFeature } from "../../../core/features.ts";
import { Inflight } from "../../../core/payloads.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { createMemfd, type Fd, Mapping } from "../../../ffi/mod.ts";
import type { Connection } from "../../connection.ts";
import { protocolFeatures } from "../../negotiation.ts";
import { type Check, expectEqual, fail } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { ask, expectDenied, expectTaken, M } from "../wire.ts";

const P = ProtocolFeature;
const SOURCE = "vhost-user: Inflight I/O tracking";
const QUEUE_SIZE = 64;

/** A split queue's region: header, then entries of 16 bytes. */
const HEADER = { features: 0, version: 8, size: 10, lastBatchHead: 12, usedIndex: 14, bytes: 16 };
const ENTRY = { inflight: 0, next: 6, counter: 8, bytes: 16 };
const VERSION = 1;

const regionBytes = (size: number): number =>
  Math.ceil((HEADER.bytes + ENTRY.bytes * size) / 64) * 64;

export interface Area {
  readonly fd: Fd;
  readonly size: number;
  readonly offset: number;
  readonly queues: number;
  readonly view: DataView;
}

const wanted = protocolFeatures | mask(P.INFLIGHT_SHMFD);

/** Asks for the shared memory of `queues` queues. */
function obtain(play: Play, connection: Connection, queues: number): Area {
  const request = Inflight.encode({ queues, queueSize: QUEUE_SIZE });
  const { payload, fds } = connection.request(M.GET_INFLIGHT_FD, request);
  const [fd] = fds;
  if (fd === undefined) fail("a descriptor", "none");
  play.keep(fd);
  const { size, offset } = Inflight.decode(payload);
  const mapping = play.keep(new Mapping(fd, Number(size), Number(offset)));
  const { data } = mapping.windows[0]!;
  return { fd, size: Number(size), offset: Number(offset), queues, view: data };
}

function describe({ size, offset, queues }: Area, change: object = {}): Uint8Array {
  const fields = { size: BigInt(size), offset: BigInt(offset), queues, queueSize: QUEUE_SIZE };
  return Inflight.encode({ ...fields, ...change });
}

/** The start of the region of a lane's vring. */
const regionOf = (area: Area, lane: Lane): number => (area.size / area.queues) * lane.vring.index;

/** A guest that tracks its requests, with rings that run. */
export function tracked(play: Play, protocol = wanted): { lane: Lane; area: Area } {
  play.needsProtocol(P.INFLIGHT_SHMFD);
  const lane = play.parked({ protocol, ringSize: QUEUE_SIZE });
  const area = obtain(play, lane.connection, lane.vrings.length);
  lane.connection.command(M.SET_INFLIGHT_FD, describe(area), [area.fd]);
  lane.start();
  return { lane, area };
}

/** A region that the front-end made, with anything in it, is survived. */
function sanitized(name: string, title: string, spoil: (view: DataView) => void): Check {
  return {
    id: `inflight.M9-${name}`,
    title: `${title}: each head is submitted at most once, nothing else happens`,
    source: SOURCE,
    run(play) {
      play.needsReconnect();
      const { lane, area } = tracked(play);
      lane.run(4);
      spoil(area.view);
      try {
        play.reconnect(lane, ({ connection }) => {
          connection.command(M.SET_INFLIGHT_FD, describe(area), [area.fd]);
        });
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
      const { connection } = play.guest({ protocol: wanted });
      const { size, fd, offset } = obtain(play, connection, 1);
      const least = regionBytes(QUEUE_SIZE);
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
      const { connection } = play.guest({ protocol: wanted });
      const { view } = obtain(play, connection, 1);
      for (let i = 0; i < QUEUE_SIZE; i++) {
        if (view.getUint8(HEADER.bytes + i * ENTRY.bytes) !== 0) fail("0", `entry ${i} in flight`);
      }
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
      const at = regionOf(area, lane);
      expectEqual("version", area.view.getUint16(at + HEADER.version, true), VERSION);
      expectEqual("a queue size of", area.view.getUint16(at + HEADER.size, true), QUEUE_SIZE);
      const used = lane.vring.ring.shownUsedIndex;
      expectEqual("a used index of", area.view.getUint16(at + HEADER.usedIndex, true), used);
      for (let i = 0; i < QUEUE_SIZE; i++) {
        if (area.view.getUint8(at + HEADER.bytes + i * ENTRY.bytes) !== 0) {
          fail("nothing in flight", `entry ${i}`);
        }
      }
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
      const at = regionOf(area, lane);
      const heads = [0, 1, 2].map((i) => availableHead(lane, first + i));
      heads.forEach((head, i) => {
        const entry = at + HEADER.bytes + head * ENTRY.bytes;
        area.view.setUint8(entry + ENTRY.inflight, 1);
        area.view.setBigUint64(entry + ENTRY.counter, BigInt(1000 + i), true);
      });
      play.reconnect(lane, ({ connection }) => {
        connection.command(M.SET_INFLIGHT_FD, describe(area), [area.fd]);
      });
      lane.finish();
      play.pause();
      expectEqual("a used index of", ring.shownUsedIndex, ring.usedIndex);
      lane.run(8);
    },
  },
  {
    id: "inflight.kill",
    title: "A program that is killed again and again completes each request once",
    source: SOURCE,
    run(play) {
      play.needsProcess();
      const { lane, area } = tracked(play);
      for (let round = 0; round < 5; round++) {
        for (let i = 0; i < 20; i++) lane.submit();
        lane.publish();
        play.target.restart();
        play.reconnect(lane, ({ connection }) => {
          connection.command(M.SET_INFLIGHT_FD, describe(area), [area.fd]);
        });
        lane.finish();
      }
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
        ask(play.greet(wanted), M.GET_INFLIGHT_FD, Inflight.encode(fields));
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
      ask(play.greet(wanted), M.GET_INFLIGHT_FD, request);
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
      const connection = play.greet(wanted);
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
        using fd = createMemfd("ringside-inflight", regionBytes(QUEUE_SIZE));
        const area = { fd, size: regionBytes(QUEUE_SIZE), offset: 0, queues: 1 };
        const payload = describe({ ...area, view: new DataView(new ArrayBuffer(0)) }, change);
        expectDenied(play.greet(wanted), name, M.SET_INFLIGHT_FD, payload, [fd]);
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
      const lane = play.parked({ protocol: wanted, ringSize: QUEUE_SIZE });
      const queues = lane.vrings.length;
      const size = regionBytes(QUEUE_SIZE) * queues;
      const fd = play.keep(createMemfd("ringside-inflight", size));
      const area = { fd, size, offset: 0, queues, view: new DataView(new ArrayBuffer(0)) };
      expectTaken(lane.connection, "new memory", M.SET_INFLIGHT_FD, describe(area), [fd]);
      lane.start();
      lane.run(8);
    },
  },
  sanitized("all-in-flight", "Every entry marked in flight", (view) => {
    for (let i = 0; i < QUEUE_SIZE; i++) view.setUint8(HEADER.bytes + i * ENTRY.bytes, 255);
  }),
  sanitized("wild-batch", "A last batch head and next fields beyond the table", (view) => {
    view.setUint16(HEADER.lastBatchHead, 60000, true);
    view.setUint16(HEADER.usedIndex, 12345, true);
    for (let i = 0; i < QUEUE_SIZE; i++) {
      view.setUint16(HEADER.bytes + i * ENTRY.bytes + ENTRY.next, 60000, true);
    }
  }),
  sanitized("loop", "A list of completions that is a loop", (view) => {
    view.setUint16(HEADER.usedIndex, 0, true);
    for (let i = 0; i < QUEUE_SIZE; i++) {
      view.setUint16(HEADER.bytes + i * ENTRY.bytes + ENTRY.next, i, true);
    }
  }),
  sanitized("version", "A version that does not exist", (view) => {
    view.setUint16(HEADER.version, 77, true);
  }),
  {
    id: "inflight.packed",
    title: "GET_INFLIGHT_FD returns memory that is large enough for packed queues",
    source: SOURCE,
    run(play) {
      play.needsProtocol(P.INFLIGHT_SHMFD);
      play.needsFeature(RingFeature.RING_PACKED);
      const features = play.wantedFeatures() | mask(RingFeature.RING_PACKED);
      const { connection, features: agreed } = play.guest({ protocol: wanted, features });
      if (!has(agreed, RingFeature.RING_PACKED)) fail("RING_PACKED", "none");
      const { size } = obtain(play, connection, 1);
      const least = Math.ceil((32 + 32 * QUEUE_SIZE) / 64) * 64;
      // DPDK adds up the fields of the header instead of taking its size.
      if (size < least - 64) fail(`at least ${least} bytes`, `${size}`);
    },
  },
];

/** The head in an entry of the available ring. */
function availableHead({ frontend, vring }: Lane, index: number): number {
  const { place, size } = vring.ring;
  const [low, high] = frontend.memory.read(place.available + 4 + 2 * (index % size), 2);
  return low! | (high! << 8);
}
