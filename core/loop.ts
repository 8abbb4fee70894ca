/**
 * The one event loop: sockets, kicks, device descriptors and timers of any number of sessions.
 *
 * By default the main thread blocks in epoll_wait, which answers a kick in about 5 us, and visits
 * the JavaScript event loop only now and then, for signal handlers. Devices that complete requests
 * from promises ask for the evented mode: the same rounds run as JavaScript events, woken by a
 * Worker that does nothing but wait for the epoll descriptor.
 */
import { acknowledge, createEventFd, EPOLLIN, type Fd, Poller, signal } from "../ffi/mod.ts";
import type { Polling } from "./polling.ts";
import { Pump } from "./pump.ts";

/** Signal handlers of the runtime run at least this often, in milliseconds. */
const IDLE_YIELD = 250;
const BUSY_YIELD = 100;
/** A signal that comes during work does not interrupt the wait that follows: that one is short. */
const SETTLE_YIELD = 50;

/** More than these have to wait for their events: looking at all of them would take too long. */
const MOST_POLLEES = 16;
/** Looks between two glances at the clock, and between two at the descriptors. Powers of two. */
const CLOCK_TURNS = 8;
const EVENT_TURNS = 64;
/** Milliseconds of looking and working until timers and signals get their turn. */
const POLL_SLICE = 10;
const NOTHING = -1_000_000;

/** A watched descriptor. Dispose it before closing the descriptor. */
export interface Watch extends Disposable {
  /** Changes the events (EPOLLIN, ...) waited for. 0 pauses the watch. */
  modify(events: number): void;
}

/** Something that can be looked at for work instead of waiting for its event. */
export interface Pollee {
  /** Does the work that has come. Returns false when there is none. */
  poll(): boolean;
  /** Asks for an event with the next piece of work. Does what has come before that. */
  rest(): void;
}

interface Watcher {
  readonly fd: number;
  readonly callback: (events: number) => void;
}

interface Timer {
  due: number;
  readonly interval: number;
  readonly task: () => void;
}

export class Loop implements Disposable {
  readonly #poller = new Poller();
  readonly #watchers: (Watcher | null)[] = [];
  readonly #freeTokens: number[] = [];
  /** Tokens given back in this round: events of theirs may still be in the batch. */
  readonly #retiredTokens: number[] = [];
  readonly #timers: Timer[] = [];
  /** When the first timer is due, at the earliest. Infinity without timers. */
  #nextDue = Number.POSITIVE_INFINITY;
  /** The time at the end of the last round. */
  #now = performance.now();
  readonly #waker: Fd;
  #deferred: (() => void)[] = [];
  #spare: (() => void)[] = [];
  #evented = false;
  #inRound = false;
  #stopped = false;
  #visitSoon = false;
  #pump: Pump | null = null;
  #polling: Polling | null = null;
  /** What asked to be looked at, and has to be told when the loop sleeps. */
  readonly #pollees: Pollee[] = [];
  /** Looks at all of them, ever: what ends a look early must not keep events waiting. */
  #turns = 0;
  /** Looking found work in this round. */
  #foundWork = false;

  constructor() {
    this.#waker = createEventFd();
    this.watch(this.#waker.number, EPOLLIN, () => acknowledge(this.#waker.number));
  }

  /** Asks for the evented mode. Takes effect when `run` is called. */
  useEvents(): void {
    this.#evented = true;
  }

  /** Lets the loop look for work before it sleeps. Means nothing in the evented mode. */
  pollWith(polling: Polling): void {
    this.#polling = polling;
  }

  /** Looks at `pollee` until it rests or is taken out. False when it has to wait for an event. */
  poll(pollee: Pollee): boolean {
    if (this.#pollees.includes(pollee)) return true;
    const polls =
      this.#polling !== null && this.#pump === null && this.#pollees.length < MOST_POLLEES;
    if (!polls || this.#polling!.window(this.#now) === 0) return false;
    this.#pollees.push(pollee);
    return true;
  }

  /** Looks at `pollee` no more, and does not tell it. */
  unpoll(pollee: Pollee): void {
    const at = this.#pollees.indexOf(pollee);
    if (at >= 0) this.#pollees.splice(at, 1);
  }

  /** Calls `callback` whenever one of `events` is there. Throws `SystemError` EPERM for a file. */
  watch(fd: number, events: number, callback: (events: number) => void): Watch {
    const token = this.#freeTokens.pop() ?? this.#watchers.length;
    this.#poller.add(fd, events, token);
    this.#watchers[token] = { fd, callback };
    let active = true;
    let wanted = events;
    const modify = (changed: number): void => {
      // epoll reports a hang-up whatever it is asked for, so a paused descriptor is taken out.
      if (changed === 0 && wanted !== 0) this.#poller.remove(fd);
      else if (changed !== 0 && wanted === 0) this.#poller.add(fd, changed, token);
      else if (changed !== 0) this.#poller.modify(fd, changed, token);
      wanted = changed;
    };
    return {
      modify: (changed) => {
        if (active) modify(changed);
      },
      [Symbol.dispose]: () => {
        if (!active) return;
        active = false;
        this.#watchers[token] = null;
        this.#retiredTokens.push(token);
        if (wanted !== 0) this.#poller.remove(fd);
      },
    };
  }

  /** Calls `task` every `milliseconds` until disposed. */
  every(milliseconds: number, task: () => void): Disposable {
    return this.#addTimer({ due: performance.now() + milliseconds, interval: milliseconds, task });
  }

  /** Calls `task` once after `milliseconds`, unless disposed before. */
  after(milliseconds: number, task: () => void): Disposable {
    return this.#addTimer({ due: performance.now() + milliseconds, interval: 0, task });
  }

  /** Calls `task` once at the end of this round, or soon when none is running. */
  defer(task: () => void): void {
    this.#deferred.push(task);
    if (this.#pump !== null && !this.#inRound && this.#deferred.length === 1) {
      queueMicrotask(() => this.#runDeferredSoon());
    }
  }

  /** Runs until `stop`. */
  async run(): Promise<void> {
    this.#now = performance.now();
    if (this.#evented) return this.#runEvented();
    let lastYield = this.#now;
    let idle = false;
    while (!this.#stopped) {
      const count = this.#round(idle ? IDLE_YIELD : SETTLE_YIELD);
      idle = count === 0 && !this.#foundWork;
      const passed = this.#now - lastYield;
      const due = count < 0 || this.#visitSoon;
      if (due || passed >= (idle ? SETTLE_YIELD : BUSY_YIELD)) {
        this.#visitSoon = false;
        await new Promise((resolve) => setTimeout(resolve, 1));
        this.#now = performance.now();
        lastYield = this.#now;
      }
    }
  }

  /** Visits the JavaScript event loop after this round: somebody's promise was settled. */
  visitSoon(): void {
    this.#visitSoon = true;
  }

  /** Makes `run` return after the current round. */
  stop(): void {
    this.#stopped = true;
    signal(this.#waker.number);
  }

  [Symbol.dispose](): void {
    this.#pump?.stop();
    this.#poller[Symbol.dispose]();
    this.#waker.close();
  }

  async #runEvented(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const pump = new Pump(this.#poller.fd.number, {
      ready: () => {
        try {
          this.#round(0);
        } catch (error) {
          reject(error);
        }
        if (this.#stopped) resolve();
        else pump.wait(this.#timeout(60_000));
      },
      failed: reject,
    });
    this.#pump = pump;
    try {
      pump.wait(this.#timeout(60_000));
      await promise;
    } finally {
      this.#pump = null;
      signal(this.#waker.number);
      pump.stop();
    }
  }

  #addTimer(timer: Timer): Disposable {
    this.#timers.push(timer);
    this.#nextDue = Math.min(this.#nextDue, timer.due);
    if (this.#pump !== null && !this.#inRound) signal(this.#waker.number);
    return {
      [Symbol.dispose]: () => {
        const at = this.#timers.indexOf(timer);
        if (at >= 0) this.#timers.splice(at, 1);
      },
    };
  }

  /** Milliseconds the next wait may take. */
  #timeout(limit: number): number {
    if (this.#deferred.length > 0) return 0;
    return Math.max(0, Math.min(limit, Math.ceil(this.#nextDue - this.#now)));
  }

  /** One wait and all that follows from it. Returns the events' number, negative after a signal. */
  #round(longest: number): number {
    const count = this.#wait(longest);
    this.#inRound = true;
    for (let i = 0; i < count; i++) {
      this.#watchers[this.#poller.token(i)]?.callback(this.#poller.events(i));
    }
    this.#runDeferred();
    this.#now = performance.now();
    if (this.#now >= this.#nextDue) this.#runTimers();
    if (this.#retiredTokens.length > 0) this.#freeTokens.push(...this.#retiredTokens.splice(0));
    this.#inRound = false;
    return count;
  }

  /** Waits for events, looking for work first where that pays. */
  #wait(longest: number): number {
    const polling = this.#polling;
    const timeout = this.#timeout(longest);
    this.#foundWork = false;
    if (polling === null || timeout === 0) return this.#poller.wait(timeout);
    const start = this.#now;
    if (this.#pollees.length > 0) {
      const count = this.#look(polling, start);
      if (count !== NOTHING) return count;
      for (const pollee of this.#pollees.splice(0)) pollee.rest();
      // What came just before that is work, and what it asks for comes first.
      if (this.#pollees.length > 0 || this.#deferred.length > 0) return this.#poller.wait(0);
      this.#now = performance.now();
    }
    const most = this.#foundWork ? Math.min(longest, SETTLE_YIELD) : longest;
    const count = this.#poller.wait(this.#timeout(most));
    if (count > 0) polling.worked(performance.now() - start);
    return count;
  }

  /**
   * Looks for work, and does it, until there was none for some time. Returns the events that came
   * meanwhile, 0 when something else is due, and `NOTHING` when it is time to sleep.
   */
  #look(polling: Polling, start: number): number {
    const pollees = this.#pollees;
    let since = start;
    let last = start;
    let end = start + polling.window(start);
    let worked = false;
    for (;;) {
      this.#turns = (this.#turns + 1) | 0;
      const turn = this.#turns;
      for (let i = 0; i < pollees.length; i++) worked = pollees[i]!.poll() || worked;
      if (turn % EVENT_TURNS === 0) {
        const count = this.#poller.wait(0);
        if (count !== 0) return count;
      }
      if (this.#deferred.length > 0) return 0;
      if (!worked && turn % CLOCK_TURNS !== 0) continue;
      const now = performance.now();
      if (worked) {
        this.#foundWork = true;
        polling.worked(last - since);
        polling.hit();
        since = now;
        end = now + polling.window(now);
      } else if (polling.stolen(now - last, now)) return NOTHING;
      last = now;
      if (now >= end) {
        if (!worked) polling.missed(now);
        return pollees.length > 0 ? NOTHING : 0;
      }
      if (now - start > POLL_SLICE || now >= this.#nextDue) return 0;
      worked = false;
    }
  }

  /** Runs what was deferred so far; what that defers waits for the next round. */
  #runDeferred(): void {
    const tasks = this.#deferred;
    if (tasks.length === 0) return;
    this.#deferred = this.#spare;
    this.#spare = tasks;
    for (let i = 0; i < tasks.length; i++) tasks[i]!();
    tasks.length = 0;
  }

  /**
   * Runs what was deferred between two rounds. The rest waits for a round, which an event brings: a
   * chain of microtasks would keep all other events away.
   */
  #runDeferredSoon(): void {
    this.#inRound = true;
    this.#runDeferred();
    this.#inRound = false;
    if (this.#deferred.length > 0) signal(this.#waker.number);
  }

  #runTimers(): void {
    const now = this.#now;
    const due = this.#timers.filter((timer) => timer.due <= now).sort((a, b) => a.due - b.due);
    for (const timer of due) {
      if (!this.#timers.includes(timer)) continue;
      if (timer.interval > 0) timer.due = now + timer.interval;
      else this.#timers.splice(this.#timers.indexOf(timer), 1);
      timer.task();
    }
    this.#nextDue = Math.min(...this.#timers.map((timer) => timer.due));
  }
}
