/** `--monitor`: links that the operator takes down and puts up, and counters. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { connectUnix, type Fd, libc } from "../../ffi/mod.ts";
import { NetDriver, sleep } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { fdCount } from "../support/process-status.ts";
import { launcher, Program, until } from "../support/program.ts";
import { broadcast, makeFrame } from "./frames.ts";

function say(fd: Fd, text: string): void {
  const data = Uint8Array.from(Buffer.from(text));
  libc.write(fd.number, data, data.length);
}

/** What comes next: a line, or null at the end of the connection. */
function hear(fd: Fd): string | null {
  const data = new Uint8Array(65_536);
  const count = libc.read(fd.number, data, data.length);
  return count <= 0 ? null : Buffer.from(data.subarray(0, count)).toString().trimEnd();
}

describe("the monitor of network devices", () => {
  const folder = new Folder();
  const sockets = ["a", "b"].map((name) => folder.at(name));
  const path = folder.at("monitor");
  let program: Program;
  before(() => {
    const command = [launcher("vhost-user-net"), "--switch", `--monitor=${path}`];
    command.push(...sockets.map((socket) => `--socket-path=${socket}`));
    program = new Program(command, { socket: sockets[1]! });
  });
  after(() => {
    assert.ok(program.stop());
    assert.equal(existsSync(path), false, "its socket is gone");
    program[Symbol.dispose]();
    folder[Symbol.dispose]();
  });
  const command = (text: string) => {
    using fd = connectUnix(path);
    say(fd, `${text}\n`);
    return hear(fd);
  };

  it("takes a link down, of which the driver is told, and up again", () => {
    using first = NetDriver.connect(sockets[0]!);
    using second = NetDriver.connect(sockets[1]!);
    const arrives = (from: NetDriver, to: NetDriver) => {
      from.pair.send(makeFrame(60, 1, broadcast));
      return to.pair.receive(50) !== null;
    };
    const status = (driver: NetDriver, wanted: number) =>
      until(() => (driver.config().status === wanted ? true : null), `a status of ${wanted}`);
    assert.ok(arrives(first, second) && arrives(second, first));
    assert.equal(command("link down 1"), "ok");
    status(second, 0);
    assert.equal(first.config().status, 1);
    assert.ok(!arrives(first, second) && !arrives(second, first));
    assert.equal(command("link up 1"), "ok");
    status(second, 1);
    assert.ok(arrives(first, second) && arrives(second, first));
    assert.equal(command("link down"), "ok");
    status(first, 0);
    status(second, 0);
    assert.equal(command("link up"), "ok");
    assert.ok(arrives(first, second) && arrives(second, first));
    const [one, two] = JSON.parse(command("counters")!);
    assert.deepEqual([one.txFrames, one.rxFrames, two.txFrames, two.rxFrames], [3, 3, 3, 3]);
    assert.deepEqual([one.txDropped, two.txDropped, two.rxDropped], [1, 1, 1]);
  });

  it("is down for a guest that comes later", () => {
    assert.equal(command("link down 0"), "ok");
    using first = NetDriver.connect(sockets[0]!);
    assert.equal(first.config().status, 0);
    first.pair.send(makeFrame(60));
    assert.equal(command("link up 0"), "ok");
    until(() => (first.config().status === 1 ? true : null), "a link");
  });

  it("refuses what it does not know, and who says too much", () => {
    for (const wrong of ["", "link", "link on", "link up 2", "link up x", "link up 1 1", "quit"]) {
      assert.match(command(wrong)!, /^error: /, wrong);
    }
    const before = fdCount(program.pid);
    {
      using fd = connectUnix(path);
      say(fd, "x".repeat(10_000));
      assert.equal(hear(fd), null);
      using slow = connectUnix(path);
      say(slow, "link");
      sleep(20);
      say(slow, " up\nlink up\n");
      sleep(20);
      assert.equal(hear(slow), "ok\nok");
      const many = Array.from({ length: 20 }, () => connectUnix(path));
      assert.equal(hear(many.at(-1)!), null);
      for (const one of many) one.close();
    }
    until(() => (fdCount(program.pid) <= before ? true : null), "closed connections");
    assert.equal(command("link up"), "ok");
  });
});
