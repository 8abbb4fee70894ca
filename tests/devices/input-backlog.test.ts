/** Events that wait for the guest, against what a guest makes of those that come. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Backlog } from "../../devices/input/backlog.ts";
import { Abs, EventType, Syn } from "../../devices/input/wire.ts";

const { SYN, KEY, ABS, MSC } = EventType;
const SLOTS = 3;

/** A follower of events, as Linux has them: keys, axes, contacts, and numbered packets. */
class Model {
  readonly keys = new Set<number>();
  readonly axes = new Map<number, number>();
  readonly contacts = new Map<string, number>();
  slot = 0;

  follow(type: number, code: number, value: number): void {
    if (type === KEY && value === 1) this.keys.add(code);
    else if (type === KEY) this.keys.delete(code);
    else if (type !== ABS) return;
    else if (code === Abs.MT_SLOT) this.slot = value;
    else if (code >= Abs.MT_FIRST) this.contacts.set(`${this.slot}:${code}`, value);
    else this.axes.set(code, value);
  }

  get picture(): unknown {
    const sorted = <K, V>(map: Map<K, V>) => [...map].sort((a, b) => (a[0] < b[0] ? -1 : 1));
    return [[...this.keys].sort(), sorted(this.axes), sorted(this.contacts), this.slot];
  }
}

type Event = readonly [number, number, number];

const event: fc.Arbitrary<Event> = fc.oneof(
  fc.tuple(fc.constant(KEY), fc.integer({ min: 1, max: 6 }), fc.constantFrom(0, 1)),
  fc.tuple(fc.constant(ABS), fc.constantFrom(0, 1), fc.integer({ min: 0, max: 9 })),
  fc.tuple(fc.constant(ABS), fc.constant(Abs.MT_SLOT), fc.integer({ min: 0, max: SLOTS - 1 })),
  fc.tuple(
    fc.constant(ABS),
    fc.constantFrom(Abs.MT_TRACKING_ID, Abs.MT_POSITION_X),
    fc.integer({ min: -1, max: 9 }),
  ),
);

/** How many packets are pushed, how large they are at most, and how many events are taken after. */
const turn = fc.record({
  packets: fc.integer({ min: 1, max: 900 }),
  events: fc.array(event, { minLength: 1, maxLength: 12 }),
  taken: fc.integer({ min: 0, max: 3000 }),
});

describe("the backlog of events", () => {
  it("brings every reader to the state of the device, and keeps the newest packets whole", () => {
    fc.assert(
      fc.property(fc.array(turn, { minLength: 1, maxLength: 8 }), (turns) => {
        const backlog = new Backlog(SLOTS);
        const [device, guest] = [new Model(), new Model()];
        let serial = 0;
        let last = 0;
        let open = 0;
        const take = (count: number): void => {
          for (let i = 0; i < count && backlog.next(); i++) {
            const { type, code, value } = backlog;
            guest.follow(type, code, value);
            if (type === MSC) {
              // Each packet begins with its number and ends before the next one begins.
              assert.equal(open, 0);
              assert.ok(value > last);
              last = value;
              open = value;
            } else if (type === SYN && code === Syn.REPORT) open = 0;
            else if (type === SYN) assert.equal(open, 0, "nothing is dropped within a packet");
          }
        };
        for (const { packets, events, taken } of turns) {
          for (let i = 0; i < packets; i++) {
            backlog.push(MSC, 0, ++serial);
            for (const [type, code, value] of events) {
              device.follow(type, code, value);
              backlog.push(type, code, value);
            }
            assert.equal(backlog.push(SYN, Syn.REPORT, 0), true);
          }
          const dropped = backlog.dropped;
          take(taken);
          assert.equal(backlog.dropped, dropped, "taking drops nothing");
        }
        assert.ok(backlog.length <= 4096 + 14);
        take(Number.POSITIVE_INFINITY);
        assert.equal(last, serial, "the newest one arrives");
        assert.equal(backlog.length, 0);
        assert.equal(backlog.ready, false);
        assert.deepEqual(guest.picture, device.picture);
      }),
      { numRuns: process.env.RINGSIDE_TEST_FULL === "1" ? 1000 : 40 },
    );
  });

  it("gives up a packet that is longer than itself, and tells the state", () => {
    const backlog = new Backlog();
    backlog.push(KEY, 30, 1);
    for (let i = 0; i < 10_000; i++) backlog.push(MSC, 4, i);
    assert.equal(backlog.ready, false, "it has not ended yet");
    assert.equal(backlog.next(), false);
    assert.equal(backlog.push(SYN, Syn.REPORT, 0), true);
    assert.equal(backlog.ready, true);
    const events: number[][] = [];
    while (backlog.next()) events.push([backlog.type, backlog.code, backlog.value]);
    assert.deepEqual(events, [
      [SYN, Syn.DROPPED, 0],
      [SYN, Syn.REPORT, 0],
      [KEY, 30, 1],
      [SYN, Syn.REPORT, 0],
    ]);
  });

  it("forgets what waits when it is cleared, and knows what was skipped", () => {
    const backlog = new Backlog();
    backlog.push(KEY, 30, 1);
    backlog.push(SYN, Syn.REPORT, 0);
    backlog.clear();
    assert.equal(backlog.ready, false);
    backlog.skip(KEY, 31, 1);
    for (let i = 0; i < 3000; i++) {
      backlog.push(MSC, 4, i);
      backlog.push(SYN, Syn.REPORT, 0);
    }
    const keys: number[] = [];
    while (backlog.next()) if (backlog.type === KEY) keys.push(backlog.code);
    assert.deepEqual(keys, [30, 31], "the state after a gap is that of the device");
  });
});
