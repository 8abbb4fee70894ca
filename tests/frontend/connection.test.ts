import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Header, U64 } from "../../core/payloads.ts";
import { frontEndMessages as M } from "../../core/protocol.ts";
import { createEventFd, type Fd, listenUnix, MessageBuffer, socketPair } from "../../ffi/mod.ts";
import { BackEndError, Connection, type Fault, sleep } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { fdCount } from "../support/process-status.ts";

/** A connection whose other side the test plays; it may answer before it is asked. */
class Peer implements Disposable {
  readonly connection: Connection;
  readonly #socket: Fd;
  readonly #buffer = new MessageBuffer(64 * 1024);

  constructor(timeout = 2000) {
    const [own, other] = socketPair();
    this.connection = new Connection(own, { timeout });
    this.#socket = other;
  }

  send(data: Uint8Array, fds: readonly Fd[] = []): void {
    this.#buffer.data.set(data);
    const numbers = fds.map((fd) => fd.number);
    assert.equal(this.#buffer.send(this.#socket, 0, data.length, numbers), data.length);
  }

  reply(request: number, flags: number, payload: Uint8Array, fds: readonly Fd[] = []): void {
    const data = new Uint8Array(Header.size + payload.length);
    Header.encode({ request, flags, size: payload.length }, data);
    data.set(payload, Header.size);
    this.send(data, fds);
  }

  /** What the connection sent, and how many descriptors came with it. */
  received(): { hex: string; fds: number } {
    const got = this.#buffer.receive(this.#socket, 0, 4096);
    const { length } = this.#buffer.received;
    for (const fd of this.#buffer.received) fd.close();
    return {
      hex: Buffer.from(this.#buffer.data.subarray(0, Math.max(0, got))).toString("hex"),
      fds: length,
    };
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.connection.close();
    this.close();
  }
}

const u64 = (value: bigint) => U64.encode({ value });
const seven = u64(7n);

function fault(action: () => unknown): Fault {
  try {
    action();
  } catch (error) {
    if (error instanceof BackEndError) return error.fault;
    throw error;
  }
  return assert.fail("nothing was wrong");
}

describe("Connection", () => {
  it("sends the bytes that the specification's examples show", () => {
    using peer = new Peer();
    using kick = createEventFd();
    const { connection } = peer;
    connection.send(M.GET_FEATURES);
    assert.deepEqual(peer.received(), { hex: "010000000100000000000000", fds: 0 });
    connection.acknowledged = true;
    peer.reply(12, 5, u64(0n));
    connection.command(M.SET_VRING_KICK, u64(1n), [kick]);
    const hex = "0c0000000900000008000000" + "0100000000000000";
    assert.deepEqual(peer.received(), { hex, fds: 1 });
  });

  it("asks for acknowledgements only where they are negotiated", () => {
    using peer = new Peer();
    peer.connection.command(M.SET_OWNER);
    assert.equal(peer.received().hex, "030000000100000000000000");
    peer.connection.acknowledged = true;
    peer.reply(3, 5, u64(0n));
    peer.connection.command(M.SET_OWNER);
    assert.equal(peer.received().hex, "030000000900000000000000");
    peer.reply(3, 5, seven);
    assert.equal(
      fault(() => peer.connection.command(M.SET_OWNER)),
      "refused",
    );
  });

  it("returns a reply that comes byte by byte", () => {
    using peer = new Peer();
    const reply = new Uint8Array(20);
    Header.encode({ request: 1, flags: 5, size: 8 }, reply);
    reply.set(seven, Header.size);
    for (const byte of reply) peer.send(Uint8Array.of(byte));
    assert.deepEqual(peer.connection.request(M.GET_FEATURES).payload, seven);
  });

  it("hands over the descriptors of a reply that may carry them", () => {
    using peer = new Peer();
    using passed = createEventFd();
    peer.reply(31, 5, new Uint8Array(24), [passed]);
    const { fds } = peer.connection.request(M.GET_INFLIGHT_FD, new Uint8Array(24));
    assert.equal(fds.length, 1);
    fds[0]!.close();
  });

  const wrong: Readonly<Record<string, (peer: Peer) => void>> = {
    "another request's code": (peer) => peer.reply(2, 5, seven),
    "NEED_REPLY echoed": (peer) => peer.reply(1, 0xd, seven),
    "no REPLY flag": (peer) => peer.reply(1, 1, seven),
    "a payload that is too short": (peer) => peer.reply(1, 5, seven.subarray(1)),
    "a payload that is too long": (peer) => peer.reply(1, 5, new Uint8Array(9)),
    "no payload": (peer) => peer.reply(1, 5, new Uint8Array(0)),
  };
  for (const [name, act] of Object.entries(wrong)) {
    it(`refuses a reply with ${name}`, () => {
      using peer = new Peer();
      act(peer);
      assert.equal(
        fault(() => peer.connection.request(M.GET_FEATURES)),
        "malformed",
      );
    });
  }

  it("refuses descriptors that nobody asked for, and closes them", () => {
    using peer = new Peer();
    using passed = createEventFd();
    const before = fdCount(process.pid);
    peer.reply(1, 5, seven, [passed, passed]);
    assert.equal(
      fault(() => peer.connection.request(M.GET_FEATURES)),
      "malformed",
    );
    assert.equal(fdCount(process.pid), before);
  });

  it("tells a back-end that is gone from one that is silent", () => {
    using silent = new Peer(20);
    assert.equal(
      fault(() => silent.connection.request(M.GET_FEATURES)),
      "silent",
    );
    assert.equal(silent.connection.endsWithin(10), false);
    using gone = new Peer();
    gone.close();
    assert.equal(
      fault(() => gone.connection.request(M.GET_FEATURES)),
      "closed",
    );
    assert.equal(gone.connection.endsWithin(), true);
  });

  it("takes an empty reply to GET_CONFIG only, which means an error there", () => {
    using peer = new Peer();
    peer.reply(24, 5, new Uint8Array(0));
    assert.equal(peer.connection.request(M.GET_CONFIG, new Uint8Array(72)).payload.length, 0);
  });

  it("serves another socket while it waits", () => {
    using peer = new Peer();
    const [fd, other] = socketPair();
    const message = new MessageBuffer(16);
    message.send(other, 0, 1);
    let served = 0;
    peer.connection.side = {
      fd,
      serve() {
        served++;
        message.receive(fd, 0, 1);
        peer.reply(1, 5, seven);
      },
    };
    assert.deepEqual(peer.connection.request(M.GET_FEATURES).payload, seven);
    assert.equal(served, 1);
    fd.close();
    other.close();
  });

  it("sends more than the socket holds only while the other side reads", () => {
    using peer = new Peer(50);
    assert.equal(
      fault(() => peer.connection.sendRaw(new Uint8Array(8 * 2 ** 20))),
      "silent",
    );
  });

  it("waits for somebody to listen, and no longer than it was told", () => {
    using folder = new Folder();
    const path = folder.at("s");
    assert.throws(() => Connection.connect(path, { timeout: 20 }), /ENOENT/);
    listenUnix(path).close();
    assert.throws(() => Connection.connect(path, { timeout: 20 }), /ECONNREFUSED/);
  });

  it("can be kept from sending a message", () => {
    using peer = new Peer();
    peer.connection.beforeSend = ({ name }) => {
      if (name === "SET_OWNER") throw new Error("cut here");
    };
    peer.connection.send(M.GET_FEATURES);
    assert.throws(() => peer.connection.command(M.SET_OWNER), /cut here/);
    sleep(1);
    assert.equal(peer.received().hex, "010000000100000000000000");
  });
});
