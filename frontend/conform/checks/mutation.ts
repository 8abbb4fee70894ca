/** Rings whose content changes while a back-end reads it: row R7. */
import { has, RingFeature } from "../../../core/features.ts";
import { createMemfd, Mapping, PAGE_SIZE } from "../../../ffi/mod.ts";
import { BackEndError } from "../../errors.ts";
import type { Frontend } from "../../frontend.ts";
import { GuestMemory, planRegion } from "../../guest-memory.ts";
import { AVAIL, USED } from "../../packed-position.ts";
import { INDIRECT, NEXT, type RawDescriptor, WRITE } from "../../ring-options.ts";
import type { Vring } from "../../vring.ts";
import { type Check, fail, notOffered } from "../check.ts";
import { onRing, suffixOf } from "../hostile-ring.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { encodeTable, linked, offerChain } from "../raw-ring.ts";
import { type RingKind, ringKinds, startKind } from "../ring-kinds.ts";

/** The guest's one region ends within a page; what is behind it there belongs to nobody. */
const EDGE = 2048;
const REGION = 8 * 2 ** 20 + EDGE;
const GUARD = 0x5a;
/** How long all changes go on, and one of them at most, in milliseconds. */
const DURATION = 1500;
const SPAN = 20;
/** Changes between two looks at the clock, and how much longer a field is right than wrong. */
const BURST = 50;
const REST = 3;
/** Descriptors in the ring, each of which is one request's table where there are tables. */
const RING = 256;

/** A field that is right but for moments. Places in guest memory. */
interface Field {
  readonly at: number;
  readonly bytes: 2 | 4;
  readonly right: number;
  readonly wrong: readonly number[];
}

/** Memory that shows what is written behind its end. */
class EdgedMemory implements Disposable {
  readonly memory = new GuestMemory({ regions: 0 });
  readonly #page: Mapping;
  readonly #guard: Uint8Array;

  constructor() {
    const plan = planRegion(0, REGION, PAGE_SIZE);
    using file = createMemfd("ringside-guest", plan.offset + REGION - EDGE + PAGE_SIZE);
    this.memory.add(plan, file.duplicate());
    this.#page = new Mapping(file, PAGE_SIZE, plan.offset + REGION - EDGE);
    this.#guard = this.#page.windows[0]!.u8.subarray(EDGE).fill(GUARD);
  }

  /** The guest address of `length` bytes before the end. */
  last(length: number): number {
    return this.memory.regions[0]!.end - length;
  }

  /** Bytes behind the end that are not as they were. */
  get spoiled(): number {
    return this.#guard.reduce((count, byte) => count + (byte === GUARD ? 0 : 1), 0);
  }

  [Symbol.dispose](): void {
    this.#page[Symbol.dispose]();
  }
}

interface Offered {
  /** Requests that were made available. */
  readonly count: number;
  /** What the device reads for them. */
  readonly fields: readonly Field[];
}

/** What the session's turns have in common: a request whose answer ends where memory does. */
interface Scene {
  readonly lane: Lane;
  readonly edge: EdgedMemory;
  /** A page of guest memory: what the device reads, and a table in its second half. */
  readonly at: number;
  readonly parts: readonly RawDescriptor[];
}

function requestAtEdge(lane: Lane, edge: EdgedMemory, at: number): readonly RawDescriptor[] {
  const { out, room } = lane.exercise.request(0);
  const parts: RawDescriptor[] = [];
  if (out.length > 0) parts.push({ address: at, length: out.length });
  if (room > 0) parts.push({ address: edge.last(room), length: room, flags: WRITE });
  return linked(parts);
}

/** The fields of descriptors that stand at `place`, one after another. */
function fieldsOf(vring: Vring, place: number, parts: readonly RawDescriptor[]): Field[] {
  const view = new DataView(encodeTable(vring.ring, parts).buffer);
  return parts.flatMap(({ length, flags = 0 }, i): Field[] => {
    const from = 16 * i;
    const word = (at: number, wrong: readonly number[]): Field => {
      return { at: place + at, bytes: 4, right: view.getUint32(at, true), wrong };
    };
    const flagsAt = from + (vring.ring.packed ? 14 : 12);
    const right = view.getUint16(flagsAt, true);
    const lengths = word(from + 8, [length + 1024, length + 1000, 0xffffffff, 0]);
    const others: Field[] = [
      word(from, [view.getUint32(from, true) ^ 0x4000_0000, 0xfffffff0]),
      word(from + 4, [view.getUint32(from + 4, true) ^ 1, 0x20_0000, 0xffffffff]),
      {
        at: place + flagsAt,
        bytes: 2,
        right,
        wrong: [WRITE, NEXT, INDIRECT].map((flag) => right ^ flag),
      },
    ];
    // What a wrong length of theirs does can be seen.
    const seen = (flags & WRITE) !== 0;
    return others.flatMap((other) => (seen ? [lengths, lengths, other] : [other]));
  });
}

/** Words of what the device reads, as a header is. */
function contentFields(at: number, out: Uint8Array): Field[] {
  const view = new DataView(out.buffer, out.byteOffset, out.length);
  return Array.from({ length: Math.min(4, out.length >> 2) }, (_, i): Field => {
    const wrong = [0xffffffff, 0x7fffffff, 1];
    return { at: at + 4 * i, bytes: 4, right: view.getUint32(4 * i, true), wrong };
  });
}

/** Makes one request available, many times where there are tables. */
function offerAll({ lane, at, parts }: Scene, vring: Vring): Offered {
  const { frontend } = lane;
  const { ring } = vring;
  const driver = { frontend, vring };
  const content = lane.exercise.request(0).out;
  frontend.memory.write(at, content);
  const words = contentFields(at, content);
  if (has(frontend.features, RingFeature.INDIRECT_DESC)) {
    const table = at + 2048;
    frontend.memory.write(table, encodeTable(ring, parts));
    const head = { address: table, length: 16 * parts.length, flags: INDIRECT };
    for (let i = 0; i < RING; i++) offerChain(driver, [head], i);
    return { count: RING, fields: [...fieldsOf(vring, table, parts), ...words] };
  }
  const place = ring.place.descriptor;
  offerChain(driver, parts);
  const owner = ring.packed ? AVAIL : 0;
  const owned = parts.map((part) => ({ ...part, flags: (part.flags ?? 0) | owner }));
  return { count: 1, fields: [...fieldsOf(vring, place, owned), ...words] };
}

/** Tells whether all requests of a new ring are completed. */
function finished(memory: GuestMemory, { ring }: Vring, count: number): boolean {
  if (!ring.packed) return ring.shownUsedIndex === count;
  const [low, high] = memory.read(ring.place.descriptor + 16 * (count - 1) + 14, 2);
  return ((low! | (high! << 8)) & USED) !== 0;
}

/** Changes a field to and fro while the device works. */
function shake(memory: GuestMemory, field: Field, wrong: number, working: () => boolean): void {
  const { at, bytes, right } = field;
  const { buffer, byteOffset } = memory.bytes(at, bytes);
  const cell =
    bytes === 4 ? new Uint32Array(buffer, byteOffset, 1) : new Uint16Array(buffer, byteOffset, 1);
  for (const end = performance.now() + SPAN; performance.now() < end && working(); ) {
    for (let i = 0; i < BURST; i++) {
      Atomics.store(cell, 0, wrong);
      for (let rest = 0; rest < REST; rest++) Atomics.store(cell, 0, right);
    }
  }
}

/** The vring as a new one, in the same place and with the same descriptors. */
function renew(frontend: Frontend, vring: Vring): Vring {
  const { size, place } = vring.ring;
  const notifier = (role: "kick" | "call" | "err") => vring[role];
  return frontend.addVring(vring.index, { size, place, notifier });
}

/**
 * Turns of one session, each with a ring that is started anew, until the time is up or the back-end ends
 * it. Returns the number of the next turn.
 */
function session(play: Play, kind: RingKind, first: number, end: number): number {
  const edge = play.keep(new EdgedMemory());
  const lane = startKind(play, kind, { memory: edge.memory, ringSize: RING });
  lane.run(1);
  const at = edge.memory.allocate(4096, 4096);
  const scene = { lane, edge, at, parts: requestAtEdge(lane, edge, at) };
  const { frontend } = lane;
  let { vring } = lane;
  let turn = first;
  try {
    for (; performance.now() < end; turn++) {
      frontend.stopVring(vring);
      vring = renew(frontend, vring);
      frontend.startVrings([vring], [vring.ring.base]);
      const { count, fields } = offerAll(scene, vring);
      const field = fields[turn % fields.length]!;
      const wrong = field.wrong[Math.floor(turn / fields.length) % field.wrong.length]!;
      vring.ring.publish();
      vring.kick.signal();
      const now = vring;
      const working = () => !now.broken() && !finished(edge.memory, now, count);
      shake(edge.memory, field, wrong >>> 0, working);
    }
  } catch (error) {
    if (!(error instanceof BackEndError) || error.fault === "silent") throw error;
  }
  const { spoiled } = edge;
  if (spoiled > 0) fail("no write outside of buffers", `${spoiled} bytes behind memory`);
  return turn + 1;
}

/** Ends the check as n/a when such memory is not taken. */
function tryEdge(play: Play, kind: RingKind): void {
  play.needsFeature(...kind.needs);
  try {
    startKind(play, kind, { memory: play.keep(new EdgedMemory()).memory }).run(1);
  } catch (error) {
    if (!(error instanceof BackEndError)) throw error;
    notOffered(`memory that ends within a page: ${error.message}`);
  }
  play.close();
}

function bind(kind: RingKind): Check {
  return {
    id: `hostile.R7-changes${suffixOf(kind)}`,
    title: `What the driver changes meanwhile is used as it was checked${onRing(kind)}`,
    source: kind.name === "packed" ? "virtio 1.3 2.8.13" : "virtio 1.3 2.7.5",
    run(play) {
      tryEdge(play, kind);
      const end = performance.now() + DURATION;
      for (let turn = 0; performance.now() < end; ) {
        turn = session(play, kind, turn, end);
        play.close();
      }
      play.expectAlive();
    },
  };
}

export const mutation: readonly Check[] = ringKinds.map(bind);
