/**
 * The virtqueue itself: order, wrap-around, indirect tables, notifications both ways.
 *
 * Each check is made for every kind of ring that a driver exists for.
 */
import { RingFeature } from "../../../core/features.ts";
import { type Check, expectEqual, fail } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { type KindOptions, type RingKind, ringKinds, startKind } from "../ring-kinds.ts";

interface Run {
  readonly play: Play;
  /** Starts a guest with rings of the kind that is checked. */
  start(options?: KindOptions): Lane;
}

interface RingCheck {
  readonly name: string;
  readonly title: string;
  readonly source: string;
  readonly needs?: readonly number[];
  /** The only kind of ring that it is about. */
  readonly only?: string;
  run(run: Run): void;
}

const WRAP = 65536;

/** Requests made available and not waited for, the calls for them held off. */
function load(lane: Lane, count: number): void {
  for (let i = 0; i < count; i++) if (!lane.submit()) fail("room in the ring", "none");
}

const ringChecks: readonly RingCheck[] = [
  {
    name: "one",
    title: "A request is completed, with the right length and content",
    source: "virtio 1.3 2.7.8",
    run: ({ start }) => start().run(1),
  },
  {
    name: "used-length",
    title: "The used length is what the device wrote, for each of 200 requests",
    source: "virtio 1.3 2.7.8",
    run: ({ start }) => start().run(200, { depth: 16 }),
  },
  {
    name: "scattered",
    title: "Any cut of a request into buffers gives the same result",
    source: "virtio 1.3 2.7.4.2",
    run({ start }) {
      const lane = start({ ringSize: 128 });
      for (const pieces of [2, 3, 7, 16]) lane.run(8, { pieces, depth: 2 });
    },
  },
  {
    name: "full",
    title: "A ring that is filled to its last descriptor is emptied",
    source: "virtio 1.3 2.7.13",
    run({ start }) {
      const lane = start({ ringSize: 16 });
      for (let round = 0; round < 50; round++) {
        while (lane.submit());
        lane.publish();
        lane.finish();
      }
    },
  },
  {
    name: "sizes",
    title: "Rings of 2 to 1024 descriptors work",
    source: "virtio 1.3 2.7",
    run({ play, start }) {
      for (const ringSize of [4, 8, 256, 1024]) {
        start({ ringSize, memory: { size: 16 * 2 ** 20 } }).run(2 * ringSize, { depth: 4 });
        play.close();
      }
    },
  },
  {
    name: "wrap-entries",
    title: "The entries of the ring are used round and round",
    source: "virtio 1.3 2.7.6",
    run: ({ start }) => start({ ringSize: 8 }).run(1000, { depth: 3 }),
  },
  {
    name: "wrap-index",
    title: "Indices wrap at 65536",
    source: "virtio 1.3 2.7.6",
    only: "split",
    run({ start }) {
      const lane = start({ ringSize: 256, base: WRAP - 100 });
      lane.run(300, { depth: 32 });
    },
  },
  {
    name: "wrap-65536",
    title: "70 000 requests in a row on a small ring",
    source: "virtio 1.3 2.7.6",
    run({ start }) {
      const lane = start({ ringSize: 128 });
      const before = lane.done;
      lane.run(70_000, { depth: 40 });
      expectEqual("requests done:", lane.done - before, 70_000);
    },
  },
  {
    name: "indirect",
    title: "Requests in indirect tables",
    source: "virtio 1.3 2.7.5.3",
    needs: [RingFeature.INDIRECT_DESC],
    run({ start }) {
      const lane = start();
      lane.run(200, { indirect: true, depth: 32 });
      for (const pieces of [2, 5, 30]) lane.run(10, { indirect: true, pieces, depth: 4 });
    },
  },
  {
    name: "indirect-mixed",
    title: "Indirect and direct requests side by side",
    source: "virtio 1.3 2.7.5.3",
    needs: [RingFeature.INDIRECT_DESC],
    run({ start }) {
      const lane = start();
      for (let i = 0; i < 100; i++) {
        lane.submit({ indirect: i % 2 === 0 });
        lane.submit({ indirect: i % 3 === 0 });
        lane.publish();
        lane.finish();
      }
    },
  },
  {
    name: "no-indirect",
    title: "Direct requests where INDIRECT_DESC is not accepted",
    source: "virtio 1.3 2.7.5.3",
    run: ({ start }) => start({ without: [RingFeature.INDIRECT_DESC] }).run(100, { depth: 16 }),
  },
  {
    name: "event-idx-call",
    title: "EVENT_IDX: a call comes for the completion that was asked for",
    source: "virtio 1.3 2.7.7.2",
    needs: [RingFeature.EVENT_IDX],
    run({ start }) {
      const lane = start();
      const { ring, call } = lane.vring;
      for (const count of [1, 2, 5, 16]) {
        while (call.take());
        load(lane, count);
        ring.enableCalls(count);
        lane.publish();
        if (!call.take(lane.timeout)) fail(`a call after ${count} completions`, "none");
        lane.finish();
      }
    },
  },
  {
    name: "event-idx-quiet",
    title: "EVENT_IDX: no call for completions that none was asked for",
    source: "virtio 1.3 2.7.7.2",
    needs: [RingFeature.EVENT_IDX],
    run({ play, start }) {
      const lane = start();
      const { ring, call } = lane.vring;
      // The first completion on a ring may be called for in any case.
      lane.run(2);
      play.pause(20);
      while (call.take());
      load(lane, 16);
      ring.enableCalls(16);
      lane.publish();
      if (!takeAll(lane, 16)) fail("16 completions", "less");
      while (call.take(20));
      ring.disableCalls();
      expectNoCall(lane);
    },
  },
  {
    name: "event-idx-kick",
    title: "EVENT_IDX: no request is left behind when kicks are sent only where asked for",
    source: "virtio 1.3 2.7.10.1",
    needs: [RingFeature.EVENT_IDX],
    run({ start }) {
      // What a lost re-check shows in.
      runInBursts(start(), 3000);
    },
  },
  {
    name: "event-idx-off",
    title: "Without EVENT_IDX each completion is called for while calls are wanted",
    source: "virtio 1.3 2.7.7",
    run: ({ start }) => start({ without: [RingFeature.EVENT_IDX] }).run(300, { depth: 4 }),
  },
  {
    name: "no-interrupt",
    title: "VIRTQ_AVAIL_F_NO_INTERRUPT keeps calls away",
    source: "virtio 1.3 2.7.7.2",
    run({ play, start }) {
      const lane = start({ without: [RingFeature.EVENT_IDX] });
      lane.vring.ring.disableCalls();
      play.pause(20);
      expectNoCall(lane);
    },
  },
  {
    name: "no-notify",
    title: "Flag suppression of kicks leaves no request behind",
    source: "virtio 1.3 2.7.10.2",
    run({ start }) {
      runInBursts(start({ without: [RingFeature.EVENT_IDX] }), 3000);
    },
  },
  {
    name: "kick-without-work",
    title: "A kick without requests changes nothing",
    source: "virtio 1.3 2.7.13",
    run({ play, start }) {
      const lane = start();
      const before = lane.vring.ring.shownUsedIndex;
      for (let i = 0; i < 20; i++) lane.vring.kick.signal();
      play.pause();
      expectEqual("a used index of", lane.vring.ring.shownUsedIndex, before);
      lane.run(8);
    },
  },
  {
    name: "used-once",
    title: "Each request is completed once",
    source: "virtio 1.3 2.7.14",
    run({ play, start }) {
      const lane = start();
      const { ring } = lane.vring;
      lane.run(40, { depth: 20 });
      play.pause();
      expectEqual("a used index of", ring.shownUsedIndex, ring.usedIndex);
    },
  },
];

/** Requests one by one, waited for now and then: bursts that end while the device looks elsewhere. */
export function runInBursts(lane: Lane, count: number, every = 7): void {
  for (let i = 0; i < count; i++) {
    lane.submit();
    lane.publish();
    if (i % every === 0) lane.finish();
    else while (lane.take());
    if (lane.inFlight > 24) lane.finish();
  }
  lane.finish();
}

/** Takes completions without waiting for a call, until there were `count`. */
function takeAll(lane: Lane, count: number): boolean {
  const end = performance.now() + lane.timeout;
  for (let left = count; left > 0; ) {
    if (lane.take()) left--;
    else if (performance.now() > end) return false;
  }
  return true;
}

/** Fails when requests are called for after calls were disabled. */
function expectNoCall(lane: Lane): void {
  const { call } = lane.vring;
  while (call.take());
  load(lane, 8);
  lane.publish();
  if (!takeAll(lane, 8)) fail("8 completions", "less");
  if (call.take(60)) fail("no call that nobody asked for", "one");
  lane.finish();
}

function bind(kind: RingKind, { name, title, source, needs = [], run }: RingCheck): Check {
  return {
    id: `rings.${kind.name}-${name}`,
    title: `${title} (${kind.name})`,
    source,
    run(play) {
      play.needsFeature(...kind.needs, ...needs);
      run({ play, start: (options) => startKind(play, kind, options) });
    },
  };
}

export const rings: readonly Check[] = ringKinds.flatMap((kind) =>
  ringChecks.filter(({ only = kind.name }) => only === kind.name).map((check) => bind(kind, check)),
);
