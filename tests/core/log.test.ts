import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { Log, type LogLevel, type LogRecord } from "../../core/log.ts";

describe("Log", () => {
  const { now } = performance;
  let time = 0;
  let records: LogRecord[] = [];
  const sink = (record: LogRecord) => records.push(record);
  beforeEach(() => {
    records = [];
    time = 1000;
    performance.now = () => time;
  });
  afterEach(() => {
    performance.now = now;
  });

  test("is silent without a sink", () => {
    new Log().error("nobody hears this");
  });

  test("passes on what the level allows", () => {
    const levels: LogLevel[] = ["error", "warn", "info", "debug"];
    levels.forEach((level, i) => {
      records = [];
      const log = new Log(sink, level);
      for (const each of levels) {
        log[each](`a message of level ${each}, heard at ${level}`);
        assert.equal(log.enabled(each), levels.indexOf(each) <= i);
      }
      assert.deepEqual(
        records.map((record) => record.level),
        levels.slice(0, i + 1),
      );
    });
  });

  test("adds the fields of its ancestors, the nearest last", () => {
    const log = new Log(sink, "debug", { device: "blk", queue: 0 }).with({ queue: 3 });
    log.debug("text", { errno: 5 });
    assert.deepEqual(records, [
      { level: "debug", message: "text", fields: { device: "blk", queue: 3, errno: 5 } },
    ]);
  });

  test("stops equal messages after the fifth in a second, whatever their fields are", () => {
    const log = new Log(sink);
    for (let i = 0; i < 100; i++) log.error("again", { i });
    log.error("something else");
    assert.deepEqual(
      records.map(({ message, fields }) => fields["i"] ?? message),
      [0, 1, 2, 3, 4, "something else"],
    );
  });

  test("stops nothing at level debug", () => {
    const log = new Log(sink, "debug");
    for (let i = 0; i < 100; i++) log.error("again");
    assert.equal(records.length, 100);
  });

  test("counts a message across the logs that share a sink", () => {
    const log = new Log(sink);
    for (let i = 0; i < 10; i++) log.with({ queue: i }).warn("again");
    assert.equal(records.length, 5);
  });

  test("tells after a second how many were suppressed", () => {
    const log = new Log(sink);
    for (let i = 0; i < 12; i++) log.error("again");
    time += 1001;
    log.error("again");
    log.error("again");
    assert.deepEqual(
      records.slice(5).map(({ fields }) => fields),
      [{ suppressed: 7 }, {}],
    );
    time += 1001;
    log.error("again");
    assert.deepEqual(records.at(-1)?.fields, {}, "counting starts anew");
  });

  test("does not remember messages that its level drops", () => {
    const log = new Log(sink, "error");
    for (let i = 0; i < 10; i++) log.warn("again");
    for (let i = 0; i < 10; i++) log.error("again");
    assert.equal(records.length, 5);
  });

  test("forgets old messages rather than remember any number of them", () => {
    const repeats = new Map();
    const log = new Log(sink, "info", {}, repeats);
    for (let i = 0; i < 10_000; i++) log.error(`message ${i}`);
    assert.ok(repeats.size < 1000);
    assert.equal(records.length, 10_000);
  });
});
