import assert from "node:assert/strict";
import { existsSync, renameSync, statSync, symlinkSync } from "node:fs";
import { describe, it } from "node:test";
import { bindSocket, inheritSocket } from "../../conventions/socket.ts";
import {
  accept,
  connectUnix,
  F_GETFD,
  type Fd,
  libc,
  listenUnix,
  O_RDONLY,
  openFile,
  socketPair,
} from "../../ffi/mod.ts";
import { Folder } from "../support/folder.ts";

/** Leaves a socket behind as a killed program does. */
function abandon(path: string): void {
  listenUnix(path).close();
}

describe("bindSocket()", () => {
  it("listens, and removes its path in the end", () => {
    using folder = new Folder();
    const bound = bindSocket(folder.at("s"));
    connectUnix(folder.at("s")).close();
    accept(bound.fd)!.close();
    bound.fd.close();
    bound.unlink();
    assert.equal(existsSync(folder.at("s")), false);
    bound.unlink();
  });

  it("replaces a socket that a killed program left", () => {
    using folder = new Folder();
    abandon(folder.at("s"));
    using socket = bindSocket(folder.at("s")).fd;
    connectUnix(folder.at("s")).close();
    accept(socket)!.close();
  });

  it("leaves a socket that answers alone", () => {
    using folder = new Folder();
    using live = listenUnix(folder.at("s"));
    assert.throws(() => bindSocket(folder.at("s")), /another program is listening there/);
    assert.ok(existsSync(folder.at("s")));
    assert.ok(!live.closed);
  });

  it("neither waits for nor replaces a program that is too busy to accept", () => {
    using folder = new Folder();
    using _live = listenUnix(folder.at("s"), 0);
    for (let i = 0; i < 4; i++) {
      assert.throws(() => bindSocket(folder.at("s")), /another program is listening there/);
    }
  });

  it("leaves what is no socket alone", () => {
    using folder = new Folder();
    folder.write("s", "precious");
    assert.throws(() => bindSocket(folder.at("s")), /it exists and is not a socket/);
    assert.equal(statSync(folder.at("s")).size, 8);
    assert.throws(() => bindSocket(folder.path), /it exists and is not a socket/);
    symlinkSync("nowhere", folder.at("link"));
    assert.throws(() => bindSocket(folder.at("link")), /it exists and is not a socket/);
  });

  it("does not remove a path that became somebody else's", () => {
    using folder = new Folder();
    const bound = bindSocket(folder.at("s"));
    using _own = bound.fd;
    renameSync(folder.at("s"), folder.at("moved"));
    using _other = listenUnix(folder.at("s"));
    bound.unlink();
    assert.ok(existsSync(folder.at("s")));
  });

  it("says why a path cannot be used", () => {
    using folder = new Folder();
    const message = `Cannot listen on "${folder.at("no/s")}": no such file or directory`;
    assert.throws(() => bindSocket(folder.at("no/s")), { message });
    assert.throws(() => bindSocket(""), /empty socket path/);
    assert.throws(() => bindSocket(`/${"x".repeat(200)}`), /more than 107 bytes/);
  });
});

/** The number of a descriptor whose ownership passes to the code under test. */
function handOver(fd: Fd): number {
  const number = fd.duplicate();
  fd.close();
  return number.number;
}

describe("inheritSocket()", () => {
  it("tells connected from listening sockets", () => {
    using folder = new Folder();
    const [ours, theirs] = socketPair();
    using connected = inheritSocket(handOver(ours)).fd;
    assert.ok(!connected.closed);
    const listening = inheritSocket(handOver(listenUnix(folder.at("s"))));
    assert.equal(listening.kind, "listening");
    listening.fd.close();
    theirs.close();
  });

  it("keeps the socket from programs that a device starts", () => {
    const [ours, theirs] = socketPair();
    const number = ours.number;
    const F_SETFD = 2;
    libc.fcntl(number, F_SETFD, 0);
    using taken = inheritSocket(number).fd;
    assert.equal(libc.fcntl(taken.number, F_GETFD, 0), 1);
    assert.equal(libc.fcntl(number, F_GETFD, 0), -1, "the inherited number is closed");
    theirs.close();
  });

  it("refuses anything else", () => {
    using file = openFile("/dev/null", O_RDONLY);
    assert.throws(() => inheritSocket(file.number), {
      message: `Cannot use --fd=${file.number}: it is not a Unix stream socket`,
    });
    assert.throws(() => inheritSocket(9999), {
      message: "Cannot use --fd=9999: no such descriptor was passed",
    });
  });
});
