/** What queues mark: exactly the pages they write, for both kinds of rings. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { DirtyLog } from "../../core/dirty-log.ts";
import type { Queue } from "../../core/queue.ts";
import { type Buffer, DriverRing } from "../core/driver.ts";
import { TestGuest } from "../core/guest.ts";
import { PackedDriver } from "../core/packed-driver.ts";
import { LogFile, pagesOf, union } from "./log-file.ts";

const GIB = 2 ** 30;
const KIB = 1024;
/** The first region crosses a window's end; the second one follows it. */
const FIRST = GIB + 64 * KIB;
const LOG_SIZE = 65_536;
/** Guest addresses. */
const RING = 0x10_0000;
const TABLE = 0x20_0000;
const DATA = 0x30_0000;
const STATUS = 0x40_0000;

interface Settings {
  readonly eventIdx?: boolean;
  readonly inOrder?: boolean;
  /** Where SET_VRING_ADDR wants the used part marked, or null without the log flag. */
  readonly at?: number | null;
  readonly size?: number;
}

interface Rig {
  readonly queue: Queue;
  /** Makes a chain available, through an indirect table at `table` if one is given. */
  offer(buffers: readonly Buffer[], table?: number): void;
  /** Pages of the completion that comes `n` slots or elements after the first one. */
  used(n: number): number[];
  /** Pages of what `publish` writes after the completions. */
  readonly index: number[];
  /** Pages of what asks for kicks. */
  readonly event: number[];
  /** The driver takes what is completed. */
  reap(): void;
}

const reads = (address: number, length: number): Buffer => ({ address, length, writable: false });
const writes = (address: number, length: number): Buffer => ({ address, length, writable: true });

function splitRig(guest: TestGuest, log: DirtyLog, settings: Settings): Rig {
  const { size = 1024, ...features } = settings;
  const ring = new DriverRing(guest, { size, at: RING });
  const { used, descriptor: descriptors } = ring.at;
  const { at = used } = settings;
  const logged = at !== null;
  const queue = ring.queue({ ...features, log: { log, ring: at, descriptors } });
  return {
    queue,
    offer: (buffers, table) =>
      void ring.offer(buffers, table === undefined ? buffers.length : 0, table),
    used: (n) => (logged ? pagesOf(used + 4 + 8 * (n % size), 8) : []),
    index: logged ? pagesOf(used + 2, 2) : [],
    event: logged ? pagesOf(settings.eventIdx ? used + 4 + 8 * size : used, 2) : [],
    reap: () => void ring.reap(),
  };
}

function packedRig(guest: TestGuest, log: DirtyLog, settings: Settings): Rig {
  const { size = 1024, ...features } = settings;
  const ring = new PackedDriver(guest, { size, at: RING });
  const { used, descriptor: descriptors } = ring.at;
  const { at = used } = settings;
  const queue = ring.queue({ ...features, log: { log, ring: at, descriptors } });
  let id = 0;
  return {
    queue,
    offer: (buffers, table) => ring.offer(id++, buffers, table),
    used: (n) => pagesOf(descriptors + 16 * (n % size), 16),
    index: [],
    event: at === null ? [] : pagesOf(used, 4),
    reap: () => void ring.reap(),
  };
}

for (const [kind, makeRig] of Object.entries({ split: splitRig, packed: packedRig })) {
  describe(`a ${kind} queue with a log`, () => {
    let guest: TestGuest;
    let file: LogFile;
    let log: DirtyLog;
    beforeEach(() => {
      guest = new TestGuest([
        { guestAddress: 0, size: FIRST, at: 0, file: 0 },
        { guestAddress: FIRST, size: 64 * KIB, at: 0, file: 1 },
      ]);
      file = new LogFile(LOG_SIZE);
      log = file.open(0, LOG_SIZE);
    });
    afterEach(() => {
      log[Symbol.dispose]();
      file[Symbol.dispose]();
      guest[Symbol.dispose]();
    });
    const rigOf = (settings: Settings = {}) => makeRig(guest, log, settings);

    /** Completes the next chain. Returns its head. */
    const take = ({ queue }: Rig): number => {
      assert.ok(queue.next());
      return queue.chain.head;
    };
    const finish = ({ queue }: Rig, head: number, written = 1) => {
      queue.complete(head, written);
      queue.publish();
    };

    test("marks data, status byte and the completion, and nothing that is only read", () => {
      const rig = rigOf();
      rig.offer([reads(DATA - 16, 16), reads(DATA + 0x8000, 9000), writes(STATUS, 1)]);
      const head = take(rig);
      assert.deepEqual(file.take(), [], "nothing is written yet");
      finish(rig, head);
      assert.deepEqual(file.take(), union(pagesOf(STATUS, 1), rig.used(0), rig.index));
      rig.offer([reads(DATA - 16, 16), writes(DATA + 100, 9000), writes(STATUS + 4095, 1)]);
      finish(rig, take(rig), 9001);
      const n = kind === "split" ? 1 : 3;
      assert.deepEqual(
        file.take(),
        union(pagesOf(DATA + 100, 9000), pagesOf(STATUS + 4095, 1), rig.used(n), rig.index),
      );
    });

    test("marks the status byte of a request that failed, and the data that it may have changed", () => {
      const rig = rigOf();
      rig.offer([reads(DATA - 16, 16), writes(DATA, 8192), writes(STATUS, 1)]);
      const head = take(rig);
      rig.queue.chain.writeLastU8(1);
      finish(rig, head, 0);
      const pages = union(pagesOf(DATA, 8192), pagesOf(STATUS, 1), rig.used(0), rig.index);
      assert.deepEqual(file.take(), pages);
    });

    test("marks buffers that cross pages, windows and regions", () => {
      const rig = rigOf();
      const buffers: [number, number][] = [
        [4095, 2],
        [GIB - 1, 2],
        [GIB - 5000, 10_000],
        [FIRST - 1, 2],
        [FIRST - 4097, 8195],
        [GIB - 100, FIRST - GIB + 200],
        [FIRST + 64 * KIB - 1, 1],
      ];
      buffers.forEach(([address, length], i) => {
        rig.offer([writes(address, length)]);
        finish(rig, take(rig), length);
        const pages = union(pagesOf(address, length), rig.used(i), rig.index);
        assert.deepEqual(file.take(), pages, `${length} at ${address}`);
      });
    });

    test("never marks an indirect table", () => {
      const rig = rigOf();
      rig.offer([reads(DATA - 16, 16), writes(DATA, 4096), writes(STATUS, 1)], TABLE);
      finish(rig, take(rig), 4097);
      // One that crosses a window, and one that is not aligned.
      rig.offer([writes(DATA, 1), writes(STATUS, 1)], GIB - 16);
      finish(rig, take(rig), 2);
      rig.offer([writes(DATA, 1), writes(STATUS, 1)], TABLE + 4094);
      finish(rig, take(rig), 2);
      const own = [0, 1, 2].flatMap((n) => rig.used(n));
      const pages = union(pagesOf(DATA, 4096), pagesOf(STATUS, 1), own, rig.index);
      assert.deepEqual(file.take(), pages);
    });

    test("marks each page of its ring as it is used", () => {
      const rig = rigOf();
      for (let n = 0; n < 2500; n++) {
        rig.offer([writes(DATA, 1)]);
        finish(rig, take(rig));
        rig.reap();
        assert.deepEqual(file.take(), union(pagesOf(DATA, 1), rig.used(n), rig.index), `${n}`);
      }
    });

    test("sets the right bits when its code is hot", () => {
      const rig = rigOf({ eventIdx: true, size: 256 });
      for (let n = 0; n < 60_000; n++) {
        const at = DATA + (n % 100) * 4096;
        const status = STATUS + (n % 77) * 4096 + 5;
        rig.offer([reads(TABLE, 16), writes(at, 4096), writes(status, 1)]);
        finish(rig, take(rig), 4097);
        rig.queue.requestKick();
        rig.reap();
        for (const address of [at, status]) {
          const page = Math.floor(address / 4096);
          const byte = file.bits[page >> 3]!;
          if (((byte >> (page & 7)) & 1) === 0) assert.fail(`page ${page}, request ${n}`);
        }
        file.bits.fill(0, DATA >> 15, (STATUS >> 15) + 12);
      }
    });

    for (const eventIdx of [false, true]) {
      test(`marks its wish for kicks, ${eventIdx ? "an event" : "a flag"}`, () => {
        const rig = rigOf({ eventIdx });
        rig.queue.requestKick();
        assert.deepEqual(file.take(), rig.event);
        rig.queue.suppressKicks();
        // A split ring with events is silent by leaving its event where it is.
        const silent = kind === "split" && eventIdx ? [] : rig.event;
        assert.deepEqual(file.take(), silent);
      });
    }

    test("does not mark the used part of a ring without the log flag", () => {
      const rig = rigOf({ at: null });
      rig.offer([writes(DATA, 1)]);
      finish(rig, take(rig));
      rig.queue.suppressKicks();
      rig.queue.requestKick();
      // The descriptor ring of a packed queue is no used ring (vhost-user: Migration).
      assert.deepEqual(file.take(), union(pagesOf(DATA, 1), rig.used(0)));
    });

    test("marks nothing for a chain that is put back", () => {
      const rig = rigOf();
      rig.offer([writes(DATA, 1)]);
      take(rig);
      rig.queue.putBack();
      rig.queue.publish();
      rig.queue.close();
      assert.deepEqual(file.take(), []);
    });

    test("marks what it gives up, for a device may have written it", () => {
      const rig = rigOf();
      rig.offer([writes(DATA, 5000)]);
      rig.offer([writes(STATUS, 1)]);
      finish(rig, take(rig));
      file.take();
      take(rig);
      rig.queue.close();
      assert.deepEqual(file.take(), pagesOf(STATUS, 1));
      rig.queue.close();
      assert.deepEqual(file.take(), []);
    });

    test("marks held chains when they are completed, in a log that came meanwhile", () => {
      const rig = rigOf();
      rig.offer([writes(DATA, 1)]);
      rig.offer([writes(STATUS, 1)]);
      take(rig);
      const held = rig.queue.hold();
      using other = new LogFile(LOG_SIZE);
      log.replace(other.fd, 0, LOG_SIZE);
      finish(rig, take(rig));
      assert.deepEqual(other.take(), union(pagesOf(STATUS, 1), rig.used(0), rig.index));
      held.complete(1);
      rig.queue.publish();
      assert.deepEqual(other.take(), union(pagesOf(DATA, 1), rig.used(1), rig.index));
      assert.deepEqual(file.take(), []);
    });

    test("marks chains of an ordered queue when the driver can see them", () => {
      const rig = rigOf({ inOrder: true });
      rig.offer([writes(DATA, 1)]);
      rig.offer([writes(STATUS, 1)]);
      const first = take(rig);
      const second = take(rig);
      finish(rig, second);
      finish(rig, first);
      const both = union(pagesOf(DATA, 1), pagesOf(STATUS, 1), rig.used(0), rig.used(1));
      assert.deepEqual(file.take(), union(both, rig.index));
    });

    test("M7 marks nothing where its ring's log address is beyond the log", () => {
      const end = LOG_SIZE * 8 * 4096;
      for (const at of [end, end - 2, Number.MAX_SAFE_INTEGER]) {
        const rig = rigOf({ at, size: 8 });
        rig.offer([writes(DATA, 1)]);
        finish(rig, take(rig));
        rig.queue.requestKick();
        // The file goes on behind the log.
        const beyond = file.take().filter((page) => page >= LOG_SIZE * 8);
        assert.deepEqual(beyond, [], `${at}`);
      }
    });

    test("tells the front-end of each batch of marks", () => {
      const rig = rigOf();
      let signals = 0;
      log.signal.send = () => void signals++;
      rig.offer([writes(DATA, 1)]);
      finish(rig, take(rig));
      assert.equal(signals, 1);
      rig.queue.requestKick();
      assert.equal(signals, 2);
    });
  });
}
