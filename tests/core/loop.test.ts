/** The event loop, in both of its modes. No test looks at how long something takes. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Loop, type Watch } from "../../core/loop.ts";
import {
  acknowledge,
  createEventFd,
  EPOLLIN,
  EPOLLOUT,
  type Fd,
  O_RDONLY,
  openFile,
  signal,
  socketPair,
} from "../../ffi/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { pause } from "./until.ts";

for (const mode of ["blocking", "evented"] as const) {
  describe(`The ${mode} loop`, () => {
    /** A loop on which `setUp` runs; it must stop the loop in the end. */
    async function run(setUp: (loop: Loop) => void): Promise<void> {
      using loop = new Loop();
      if (mode === "evented") loop.useEvents();
      setUp(loop);
      await loop.run();
    }

    test("runs timers by their time, whatever order they were set in", () => {
      const order: string[] = [];
      return run((loop) => {
        loop.after(15, () => loop.stop());
        loop.after(8, () => order.push("second"));
        loop.after(1, () => order.push("first"));
        loop.after(2, () => order.push("never"))[Symbol.dispose]();
      }).then(() => assert.deepEqual(order, ["first", "second"]));
    });

    test("repeats a timer until it is disposed, within its task too", async () => {
      let count = 0;
      let late = 0;
      await run((loop) => {
        const timer = loop.every(1, () => {
          if (++count < 3) return;
          timer[Symbol.dispose]();
          timer[Symbol.dispose]();
          loop.after(10, () => loop.stop());
        });
        const other = loop.every(1, () => late++);
        loop.after(0, () => other[Symbol.dispose]());
      });
      assert.equal(count, 3);
      assert.ok(late <= 2, "a timer that was disposed by another ran on");
    });

    test("does not run a timer that another one of the same round has disposed", async () => {
      const order: string[] = [];
      await run((loop) => {
        loop.after(0, () => {
          order.push("first");
          second[Symbol.dispose]();
          loop.after(5, () => loop.stop());
        });
        const second = loop.after(1, () => order.push("second"));
        // Both are due before the loop looks.
        for (const start = performance.now(); performance.now() - start < 5; );
      });
      assert.deepEqual(order, ["first"]);
    });

    test("knows what time it is, however long it waited to be run", async () => {
      const { now } = performance;
      try {
        const ran = run((loop) => {
          performance.now = () => now.call(performance) + 3_600_000;
          loop.after(1, () => loop.stop());
        });
        const late = pause(5_000).then(() => "late");
        assert.notEqual(await Promise.race([ran, late]), "late");
      } finally {
        performance.now = now;
      }
    });

    test("runs deferred tasks in order, what they defer a round later", async () => {
      const order: number[] = [];
      await run((loop) => {
        loop.defer(() => {
          order.push(1);
          loop.defer(() => {
            order.push(3);
            loop.defer(() => loop.stop());
          });
        });
        loop.defer(() => order.push(2));
      });
      assert.deepEqual(order, [1, 2, 3]);
    });

    test("runs what an event deferred before it waits again", async () => {
      using event = createEventFd();
      const order: string[] = [];
      await run((loop) => {
        loop.watch(event.number, EPOLLIN, () => {
          acknowledge(event.number);
          loop.defer(() => {
            order.push("deferred");
            loop.stop();
          });
          order.push("event");
        });
        signal(event.number);
      });
      assert.deepEqual(order, ["event", "deferred"]);
    });

    test("tells which events came", async () => {
      const [one, other] = socketPair();
      let seen = 0;
      await run((loop) => {
        loop.watch(one.number, EPOLLOUT, (events) => {
          seen = events;
          loop.stop();
        });
      });
      assert.equal(seen, EPOLLOUT);
      one.close();
      other.close();
    });

    test("does not give a new watch the events of the one it follows", async () => {
      const events = Array.from({ length: 6 }, () => createEventFd());
      const fresh: Fd[] = [];
      let wrong = 0;
      await run((loop) => {
        const watches: Watch[] = [];
        // All are ready in one batch; the first to be served replaces all the others.
        const replace = (): void => {
          if (fresh.length > 0) return;
          for (const watch of watches) watch[Symbol.dispose]();
          for (const _ of events) {
            const fd = createEventFd();
            fresh.push(fd);
            loop.watch(fd.number, EPOLLIN, () => wrong++);
          }
          loop.after(5, () => loop.stop());
        };
        for (const fd of events) {
          signal(fd.number);
          watches.push(loop.watch(fd.number, EPOLLIN, replace));
        }
      });
      assert.equal(fresh.length, events.length);
      assert.equal(wrong, 0);
      for (const fd of [...events, ...fresh]) fd.close();
    });

    test("serves new watches that follow disposed ones", async () => {
      const served: number[] = [];
      const fds: Fd[] = [];
      await run((loop) => {
        const next = (round: number): void => {
          if (round === 20) return loop.stop();
          const fd = createEventFd();
          fds.push(fd);
          const watch = loop.watch(fd.number, EPOLLIN, () => {
            served.push(round);
            watch[Symbol.dispose]();
            watch[Symbol.dispose]();
            watch.modify(EPOLLIN);
            next(round + 1);
          });
          signal(fd.number);
        };
        next(0);
      });
      assert.deepEqual(
        served,
        Array.from({ length: 20 }, (_, i) => i),
      );
      for (const fd of fds) fd.close();
    });

    test("is quiet about a paused watch, even when the other side hangs up", async () => {
      const [one, other] = socketPair();
      let calls = 0;
      let resumed = 0;
      await run((loop) => {
        const watch = loop.watch(one.number, EPOLLIN, () => {
          calls++;
          if (resumed > 0) {
            watch.modify(0);
            loop.stop();
          } else if (calls > 1) loop.stop();
          else {
            watch.modify(0);
            watch.modify(0);
            loop.after(10, () => {
              resumed++;
              watch.modify(EPOLLIN);
            });
          }
        });
        other.close();
      });
      assert.deepEqual([calls, resumed], [2, 1]);
      one.close();
    });

    test("refuses a file, and goes on without it", async () => {
      using file = openFile("/proc/self/status", O_RDONLY);
      using folder = openFile("/", O_RDONLY);
      using event = createEventFd();
      let served = 0;
      await run((loop) => {
        assert.throws(() => loop.watch(folder.number, EPOLLIN, () => {}), /EPERM/);
        loop.watch(event.number, EPOLLIN, () => {
          served++;
          loop.stop();
        });
        signal(event.number);
      });
      assert.equal(served, 1);
      assert.equal(file.closed, false);
    });

    test("lets timers and promises of JavaScript run, idle and busy", async () => {
      for (const busy of [false, true]) {
        using event = createEventFd();
        if (busy) signal(event.number);
        let promised = false;
        await run((loop) => {
          loop.watch(event.number, EPOLLIN, () => {});
          Promise.resolve().then(() => {
            promised = true;
          });
          setTimeout(() => loop.stop(), 1);
        });
        assert.equal(promised, true);
      }
    });

    test("lets who waits for a promise go on at once when it is told to", async () => {
      using busy = createEventFd();
      signal(busy.number);
      let rounds = 0;
      let seen = 0;
      await run((loop) => {
        const { promise, resolve } = Promise.withResolvers<void>();
        promise.then(() => {
          seen = rounds;
          loop.stop();
        });
        loop.watch(busy.number, EPOLLIN, () => {
          if (++rounds < 10) return;
          resolve();
          loop.visitSoon();
        });
      });
      assert.ok(seen >= 10 && seen < 13, `it went on after ${seen} rounds`);
    });

    test("ends at once when it was stopped before", () => run((loop) => loop.stop()));

    test("fails when a callback throws", async () => {
      await assert.rejects(
        run((loop) => {
          loop.after(0, () => {
            throw new Error("on purpose");
          });
        }),
        /on purpose/,
      );
    });
  });
}

describe("The evented loop between its rounds", () => {
  /** Runs `body` on the JavaScript side of a running loop. */
  async function beside(body: (loop: Loop) => Promise<void>): Promise<void> {
    using loop = new Loop();
    loop.useEvents();
    const ended = loop.run();
    try {
      await body(loop);
    } finally {
      loop.stop();
      await ended;
    }
  }

  test("runs deferred tasks soon", () =>
    beside(async (loop) => {
      await pause(5);
      const order: number[] = [];
      await new Promise<void>((resolve) => {
        loop.defer(() => order.push(1));
        loop.defer(() => {
          order.push(2);
          loop.defer(() => {
            order.push(3);
            resolve();
          });
        });
        order.push(0);
      });
      assert.deepEqual(order, [0, 1, 2, 3]);
    }));

  test("starts timers that are set while it waits", () =>
    beside(async (loop) => {
      await pause(5);
      await new Promise<void>((resolve) => loop.after(1, resolve));
      await new Promise<void>((resolve) => {
        const timer = loop.every(1, () => {
          timer[Symbol.dispose]();
          resolve();
        });
      });
    }));

  test("notices watches that are added while it waits", () =>
    beside(async (loop) => {
      await pause(5);
      const { reader, writer } = createPipe();
      await new Promise<void>((resolve) => {
        const watch = loop.watch(reader.number, EPOLLIN, () => {
          watch[Symbol.dispose]();
          resolve();
        });
        signal(writer.number);
      });
      reader.close();
      writer.close();
    }));

  test("does not starve JavaScript with tasks that defer themselves", () =>
    beside(async (loop) => {
      await pause(5);
      let turns = 0;
      let timed = false;
      setTimeout(() => {
        timed = true;
      }, 1);
      await new Promise<void>((resolve, reject) => {
        const again = (): void => {
          if (timed) return resolve();
          if (++turns > 2_000_000) return reject(new Error("a timer of 1 ms never came"));
          loop.defer(again);
        };
        again();
      });
    }));
});
