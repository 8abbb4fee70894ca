/** Looking for work instead of sleeping: when it is done, and that nothing is lost by it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { STOP } from "../../core/device.ts";
import { Loop } from "../../core/loop.ts";
import { Polling } from "../../core/polling.ts";
import { createEventFd, EPOLLIN, signal } from "../../ffi/mod.ts";
import { kickWith, VringHarness } from "./vring-harness.ts";

/** Milliseconds. */
const LIMIT = 0.05;

const busy = (polling: Polling, gap = LIMIT / 10, times = 100): void => {
  for (let i = 0; i < times; i++) polling.worked(gap);
};

describe("Polling", () => {
  test("begins when work comes in short turns, and ends when it does not", () => {
    const polling = new Polling(LIMIT);
    assert.equal(polling.window(0), 0);
    busy(polling);
    assert.ok(polling.window(0) > LIMIT / 10 && polling.window(0) <= LIMIT);
    for (let i = 0; i < 20; i++) polling.worked(10 * LIMIT);
    assert.equal(polling.window(0), 0);
    busy(polling);
    assert.ok(polling.window(0) > 0);
  });

  test("looks longer where work comes seldom, up to its limit", () => {
    const often = new Polling(LIMIT);
    const seldom = new Polling(LIMIT);
    busy(often, LIMIT / 50);
    busy(seldom, LIMIT / 2);
    assert.ok(often.window(0) < LIMIT / 2);
    assert.equal(seldom.window(0), LIMIT);
  });

  test("is left off for longer and longer when it finds nothing", () => {
    const polling = new Polling(LIMIT);
    busy(polling);
    let now = 0;
    const pauses = Array.from({ length: 8 }, () => {
      for (let i = 0; i < 4; i++) polling.missed(now);
      const start = now;
      while (polling.window(now) === 0) now += 10;
      return now - start;
    });
    assert.deepEqual(pauses, [50, 100, 200, 400, 800, 1600, 1600, 1600]);
    for (let i = 0; i < 256; i++) polling.hit();
    for (let i = 0; i < 4; i++) polling.missed(now);
    assert.equal(polling.window(now + 49), 0);
    assert.ok(polling.window(now + 51) > 0);
  });

  test("is left off at once where others want the processor", () => {
    const polling = new Polling(LIMIT);
    busy(polling);
    assert.ok(!polling.stolen(0.1, 0));
    assert.ok(polling.stolen(3, 0));
    assert.equal(polling.window(49), 0);
    assert.ok(polling.window(51) > 0);
  });
});

/** On a machine that is busy with other tests, too. */
class Undisturbed extends Polling {
  override stolen(): boolean {
    return false;
  }

  override missed(): void {}
}

describe("A loop that polls", () => {
  test("looks at what asks for it, and tells it before it sleeps", async () => {
    using loop = new Loop();
    using event = createEventFd();
    const log: string[] = [];
    let work = 0;
    const pollee = {
      poll: () => {
        if (work === 0) return false;
        log.push(`work ${work--}`);
        return true;
      },
      rest: () => void log.push("rest"),
    };
    loop.pollWith(new Undisturbed(1000));
    let events = 0;
    using _ = loop.watch(event.number, EPOLLIN, () => {
      if (++events !== 50) return;
      // Events came quickly, so it is looked at for a time now.
      assert.ok(loop.poll(pollee));
      assert.ok(loop.poll(pollee), "once is enough");
      work = 3;
    });
    signal(event.number);
    loop.after(200, () => loop.stop());
    await loop.run();
    assert.deepEqual(log.slice(0, 3), ["work 3", "work 2", "work 1"]);
  });

  test("looks at nothing unless told to, and before it knows that this pays", () => {
    const pollee = { poll: () => false, rest: () => {} };
    using loop = new Loop();
    assert.equal(loop.poll(pollee), false);
    loop.pollWith(new Undisturbed(1));
    assert.equal(loop.poll(pollee), false);
  });

  test("hears of events however much there is to do, and whatever that defers", async () => {
    using loop = new Loop();
    using event = createEventFd();
    let looks = 0;
    const pollee = {
      poll: () => {
        looks++;
        loop.defer(() => {});
        return true;
      },
      rest: () => {},
    };
    loop.pollWith(new Undisturbed(1000));
    let events = 0;
    using _ = loop.watch(event.number, EPOLLIN, () => {
      if (++events === 50) {
        assert.ok(loop.poll(pollee));
        looks = 0;
      } else if (events === 60) loop.stop();
    });
    signal(event.number);
    loop.after(5000, () => loop.stop());
    await loop.run();
    assert.equal(events, 60);
    assert.ok(looks < 1000, `${looks} looks`);
  });

  test("does not look at a ring whose device leaves its chains", async () => {
    using loop = new Loop();
    loop.pollWith(new Undisturbed(1000));
    const t = new VringHarness(loop);
    try {
      let handled = 0;
      let leave = false;
      t.device.handle = (chain) => {
        handled++;
        return leave ? STOP : chain.writableBytes;
      };
      const kick = t.start();
      const driver = loop.every(0.2, () => {
        t.ring.reap();
        t.offer();
        kickWith(kick);
        if (handled < 100) return;
        // The ring is looked at by now.
        driver[Symbol.dispose]();
        leave = true;
        handled = 0;
      });
      loop.after(1000, () => loop.stop());
      await loop.run();
      assert.ok(leave && handled > 0 && handled < 10, `${handled} times`);
    } finally {
      t.dispose();
    }
  });

  test("serves a ring without kicks, asks for them in the end, and loses nothing", async () => {
    const OFFERS = 400;
    using loop = new Loop();
    loop.pollWith(new Undisturbed(20));
    const t = new VringHarness(loop);
    try {
      const kick = t.start();
      let offers = 0;
      let kicks = 0;
      let done = 0;
      const announce = (): void => {
        if (t.ring.usedFlags !== 0) return;
        kicks++;
        kickWith(kick);
      };
      const driver = loop.every(0.2, () => {
        done += t.ring.reap().length;
        if (offers - done > 3 || offers === OFFERS) return;
        offers++;
        t.offer();
        announce();
      });
      loop.after(10_000, () => loop.stop());
      const end = loop.every(5, () => {
        if (done < OFFERS) return;
        driver[Symbol.dispose]();
        end[Symbol.dispose]();
        // Longer than it looks: it has gone to sleep then, and wants a kick.
        loop.after(100, () => {
          assert.equal(t.ring.usedFlags, 0);
          t.offer();
          announce();
          loop.after(50, () => loop.stop());
        });
      });
      await loop.run();
      assert.equal(done, OFFERS);
      assert.equal(t.ring.reap().length, 1, "the last one was kicked for");
      assert.ok(kicks < OFFERS * 0.9, `${kicks} kicks for ${OFFERS} chains`);
      kick.close();
    } finally {
      t.dispose();
    }
  });
});
