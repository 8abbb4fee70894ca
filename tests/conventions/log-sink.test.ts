import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { logSink } from "../../conventions/log-sink.ts";
import { Log } from "../../core/log.ts";

function lines(format: "text" | "json", write: (log: Log) => void): string[] {
  const written: string[] = [];
  write(
    new Log(
      logSink("vhost-user-x", format, (line) => written.push(line)),
      "debug",
    ),
  );
  return written;
}

describe("logSink()", () => {
  it("writes program, level, message and fields in text", () => {
    const written = lines("text", (log) => {
      log.with({ queue: 0 }).warn("Broke a queue", { head: 3, unset: undefined });
      log.info("Listening");
    });
    assert.deepEqual(written, [
      "vhost-user-x: warn: Broke a queue (queue=0, head=3)",
      "vhost-user-x: info: Listening",
    ]);
  });

  it("writes one object per line in JSON", () => {
    const [line] = lines("json", (log) => log.error("Two\nlines", { head: 3 }));
    assert.equal(line!.includes("\n"), false);
    const { time, ...rest } = JSON.parse(line!);
    assert.equal(new Date(time).toISOString(), time);
    assert.deepEqual(rest, {
      head: 3,
      level: "error",
      program: "vhost-user-x",
      message: "Two\nlines",
    });
  });

  it("lets no message forge a line or drive the terminal", () => {
    const [line] = lines("text", (log) => log.warn("a\nvhost-user-x: error: b\x1b[2J\x7f\x85"));
    assert.equal(line, "vhost-user-x: warn: a\\x0avhost-user-x: error: b\\x1b[2J\\x7f\\x85");
  });

  it("lets no field pose as the level", () => {
    const [line] = lines("json", (log) => log.warn("x", { level: "info", time: 0 }));
    assert.equal(JSON.parse(line!).level, "warn");
  });
});
