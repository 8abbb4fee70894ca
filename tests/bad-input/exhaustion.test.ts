import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { Flag } from "../../core/protocol.ts";
import { Client, u64 } from "./client.ts";
import { assortment, repeat } from "./objects.ts";
import { Program } from "./program.ts";
import { serves, TIME_LIMIT } from "./row.ts";

/** A limit that leaves a back-end under either runtime room for itself and one front-end. */
const LIMITED = { prelude: "ulimit -n 96" };

test("F8 descriptors that are lost on the way close the connection", {
  timeout: TIME_LIMIT,
}, () => {
  const program = new Program(LIMITED);
  try {
    serves(program);
    const before = program.settled();
    const objects = assortment();
    for (const flags of [Flag.VERSION, Flag.VERSION | Flag.NEED_REPLY]) {
      using client = new Client(program.socket);
      // The kernel drops those that the process has no room for.
      client.send("SET_VRING_CALL", u64(0), { fds: repeat(objects, 200), flags });
      assert.ok(client.closed());
    }
    for (const fd of objects) fd.close();
    assert.ok(program.alive);
    serves(program);
    assert.deepEqual(program.differences(before), []);
    assert.match(program.log().join("\n"), /more descriptors than can be received/);
  } finally {
    program.stop();
  }
});

test("F8 a front-end that cannot be accepted for want of descriptors is accepted later", {
  timeout: TIME_LIMIT,
}, (t) => {
  const limit = (pid: number, count: number) =>
    spawnSync("prlimit", ["--pid", `${pid}`, `--nofile=${count}:4096`]).status === 0;
  if (spawnSync("prlimit", ["--version"]).status !== 0) return t.skip("no prlimit program");
  const program = new Program({ prelude: "ulimit -n 4096" });
  try {
    serves(program);
    const before = program.settled();
    // All numbers below 3 are taken, so nothing new can be opened.
    assert.ok(limit(program.pid, 3));
    using client = new Client(program.socket);
    client.send("GET_FEATURES");
    assert.ok(client.silent());
    assert.ok(program.alive, "the back-end survives");
    assert.ok(program.idle(), "the back-end does not spin");
    assert.ok(limit(program.pid, 4096));
    assert.equal(typeof client.receive(), "object", "it is served in the end");
    client[Symbol.dispose]();
    serves(program);
    assert.deepEqual(program.differences(before), []);
    assert.match(program.log().join("\n"), /Cannot accept a front-end.*too many open files/);
  } finally {
    program.stop();
  }
});
