/** A region of requests in flight whose inside is looked at (vhost-user: Inflight I/O tracking). */
import { mask } from "../../core/features.ts";
import { Inflight } from "../../core/payloads.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { type Fd, Mapping } from "../../ffi/mod.ts";
import type { Connection } from "../connection.ts";
import { protocolFeatures } from "../negotiation.ts";
import { fail } from "./check.ts";
import type { Lane } from "./lane.ts";
import type { Play } from "./play.ts";
import { featuresOf, type RingKind, split } from "./ring-kinds.ts";
import { M } from "./wire.ts";

/** Descriptors of the queues that a region is made for. */
export const QUEUE_SIZE = 64;

/** Of a queue's part: bytes of its header and of each entry, whose first one is 1 in flight. */
const layouts = { split: { header: 16, entry: 16 }, packed: { header: 32, entry: 32 } } as const;

/** What both formats begin with, and the rest of a split queue's header. */
export const Header = { version: 8, size: 10, lastBatchHead: 12, usedIndex: 14 } as const;
/** An entry of a split queue. */
export const Entry = { next: 6, counter: 8 } as const;
export const VERSION = 1;

/** The part of one queue, in bytes. */
export function partBytes({ name }: RingKind, queueSize = QUEUE_SIZE): number {
  const { header, entry } = layouts[name];
  return Math.ceil((header + entry * queueSize) / 64) * 64;
}

export interface Area {
  readonly kind: RingKind;
  readonly fd: Fd;
  readonly size: number;
  readonly offset: number;
  readonly queues: number;
  readonly view: DataView;
}

export const trackedProtocol = protocolFeatures | mask(ProtocolFeature.INFLIGHT_SHMFD);

/** Asks for the shared memory of `queues` queues. */
export function obtain(
  play: Play,
  connection: Connection,
  queues: number,
  kind: RingKind = split,
): Area {
  const request = Inflight.encode({ queues, queueSize: QUEUE_SIZE });
  const { payload, fds } = connection.request(M.GET_INFLIGHT_FD, request);
  const [fd] = fds;
  if (fd === undefined) fail("a descriptor", "none");
  play.keep(fd);
  const { size, offset } = Inflight.decode(payload);
  const mapping = play.keep(new Mapping(fd, Number(size), Number(offset)));
  const { data } = mapping.windows[0]!;
  return { kind, fd, size: Number(size), offset: Number(offset), queues, view: data };
}

/** A SET_INFLIGHT_FD payload, or one with some fields changed. */
export function describeArea(
  { size, offset, queues }: Pick<Area, "size" | "offset" | "queues">,
  change: object = {},
): Uint8Array {
  const fields = { size: BigInt(size), offset: BigInt(offset), queues, queueSize: QUEUE_SIZE };
  return Inflight.encode({ ...fields, ...change });
}

export function give(area: Area, { connection }: { readonly connection: Connection }): void {
  connection.command(M.SET_INFLIGHT_FD, describeArea(area), [area.fd]);
}

/** A guest that has its requests recorded, with rings that run. */
export function tracked(
  play: Play,
  kind: RingKind = split,
  protocol = trackedProtocol,
): { readonly lane: Lane; readonly area: Area } {
  play.needsProtocol(ProtocolFeature.INFLIGHT_SHMFD);
  play.needsFeature(...kind.needs);
  const features = featuresOf(play, kind);
  const lane = play.parked({ protocol, features, ringSize: QUEUE_SIZE });
  const area = obtain(play, lane.connection, lane.vrings.length, kind);
  give(area, lane);
  lane.start();
  return { lane, area };
}

/** The start of the part of a lane's vring. */
export const partOf = (area: Area, lane: Lane): number =>
  (area.size / area.queues) * lane.vring.index;

/** Where the entry of a head, or another one of a packed queue, begins. */
export function entryAt(area: Area, lane: Lane, index: number): number {
  const { header, entry } = layouts[area.kind.name];
  return partOf(area, lane) + header + entry * index;
}

/** Entries of a lane's vring that are marked. */
export function marked(area: Area, lane: Lane): number[] {
  const all = Array.from({ length: QUEUE_SIZE }, (_, i) => i);
  return all.filter((i) => area.view.getUint8(entryAt(area, lane, i)) !== 0);
}

/** Fails when an entry says that something is in flight. */
export function expectNoneMarked(area: Area, lane: Lane): void {
  const [first] = marked(area, lane);
  if (first !== undefined) fail("nothing in flight", `entry ${first}`);
}
