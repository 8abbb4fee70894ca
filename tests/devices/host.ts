/** What a device is lent, for tests: written down, and run by hand. */
import type { Host } from "../../core/device.ts";
import { FrontEnd } from "../../core/front-end.ts";
import { Log, type LogRecord } from "../../core/log.ts";
import type { Watch } from "../../core/loop.ts";

export class TestHost implements Host {
  readonly records: LogRecord[] = [];
  readonly frontEnd = new FrontEnd([]);
  readonly log = new Log((record) => this.records.push(record), "debug");
  /** What the device told about its config space, last to first. */
  readonly updates: Record<string, unknown>[] = [];
  readonly timers = new Map<() => void, number>();

  updateConfig(changes: object): void {
    this.updates.unshift(changes as Record<string, unknown>);
  }

  watch(): Watch {
    throw new Error("no device here watches a descriptor");
  }

  every(milliseconds: number, task: () => void): Disposable {
    this.timers.set(task, milliseconds);
    return { [Symbol.dispose]: () => void this.timers.delete(task) };
  }

  after(milliseconds: number, task: () => void): Disposable {
    const timer = this.every(milliseconds, () => {
      timer[Symbol.dispose]();
      task();
    });
    return timer;
  }

  fail(reason: Error): void {
    throw reason;
  }

  /** Lets all timers be due once. */
  tick(): void {
    for (const task of this.timers.keys()) task();
  }
}
