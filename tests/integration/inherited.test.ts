/** `--fd`: a program that is started with its socket, connected or listening, as libvirt does it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Fd, listenUnix, socketPair } from "../../ffi/mod.ts";
import { BlkDriver, RngDriver } from "../../frontend/mod.ts";
import { compare, verifyDriver } from "../support/blk.ts";
import { Folder } from "../support/folder.ts";
import { Inheritor } from "../support/inherit.ts";
import { launcher } from "../support/program.ts";

const NUMBER = 42;

function start(folder: Folder, fd: Fd, program: string, ...args: string[]): Inheritor {
  const command = [launcher(program), `--fd=${NUMBER}`, ...args];
  return new Inheritor(command, fd, NUMBER, folder.at("log"));
}

describe("a program with an inherited socket", () => {
  it("serves one end of a pair, and exits with 0 when the other end is closed", () => {
    using folder = new Folder();
    const [own, passed] = socketPair();
    using program = start(folder, passed, "vhost-user-blk", "--blk-file=ram:8M", "--num-queues=2");
    passed.close();
    {
      using driver = BlkDriver.connect(own, { queues: 2, timeout: 30_000 });
      verifyDriver(driver);
      assert.ok(program.alive);
    }
    assert.equal(program.exit(), 0);
  });

  it("exits with 0 when the connection ends before a word was said", () => {
    using folder = new Folder();
    const [own, passed] = socketPair();
    using program = start(folder, passed, "vhost-user-rng");
    passed.close();
    own.close();
    assert.equal(program.exit(30_000), 0);
  });

  it("serves one connection of a listening socket after the other", () => {
    using folder = new Folder();
    const path = folder.at("socket");
    using listener = listenUnix(path);
    using program = start(folder, listener, "vhost-user-blk", "--blk-file=ram:8M");
    let journal: ReturnType<typeof verifyDriver>;
    {
      using driver = BlkDriver.connect(path, { timeout: 30_000 });
      journal = verifyDriver(driver);
    }
    {
      using driver = BlkDriver.connect(path);
      compare(driver, journal);
    }
    assert.ok(program.alive);
    process.kill(program.pid, "SIGTERM");
    assert.equal(program.exit(), 0);
  });

  it("serves any device this way", () => {
    using folder = new Folder();
    const [own, passed] = socketPair();
    using program = start(folder, passed, "vhost-user-rng");
    passed.close();
    {
      using driver = RngDriver.connect(own, { timeout: 30_000 });
      assert.equal(driver.read(64).length, 64);
    }
    assert.equal(program.exit(), 0);
  });
});
