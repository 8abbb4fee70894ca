import assert from "node:assert/strict";
import { has, mask, RingFeature } from "../../core/features.ts";
import { Header, payloadSizes, U64 } from "../../core/payloads.ts";
import {
  Flag,
  frontEndMessages,
  MAX_PAYLOAD,
  type MessageRow,
  ProtocolFeature,
} from "../../core/protocol.ts";
import { createEventFd, libc } from "../../ffi/mod.ts";
import { ANSWER_LIMIT, Client, frame, sleep, u64 } from "./client.ts";
import { denied, memRegion, memTable, protocolMask, REGION_SIZE, regions } from "./guest.ts";
import { assortment, repeat } from "./objects.ts";
import { full, suite } from "./row.ts";

const { row, guest } = suite();
const rows: readonly MessageRow[] = Object.values(frontEndMessages);
const ASK = Flag.VERSION | Flag.NEED_REPLY;

const SHUT_WR = 1;
/** Requests that are always answered, whatever has been negotiated. */
const always = ["GET_FEATURES", "GET_PROTOCOL_FEATURES"] as const;

row("F1 messages are parsed however they are cut", {}, ({ socket }) => {
  using client = new Client(socket);
  const message = frame("SET_PROTOCOL_FEATURES", u64(protocolMask));
  for (const byte of message) {
    client.raw(Uint8Array.of(byte));
    sleep(1);
  }
  assert.equal(client.ack("SET_OWNER"), "ok");
  client.raw(message.subarray(0, Header.size));
  sleep(5);
  client.raw(message.subarray(Header.size));
  const many = Array.from({ length: 40 }, () => [...frame("GET_QUEUE_NUM")]).flat();
  client.raw(Uint8Array.from([...many, ...frame("GET_STATUS").subarray(0, 5)]));
  for (let i = 0; i < 40; i++) assert.ok(u64Of(client) >= 8n);
  client.raw(frame("GET_STATUS").subarray(5));
  assert.equal(u64Of(client), 0n);
});

function u64Of(client: Client): bigint {
  const reply = client.receive();
  assert.ok(typeof reply !== "string", `a reply came: ${reply}`);
  assert.equal(reply.flags, Flag.VERSION | Flag.REPLY);
  return new DataView(reply.payload.buffer).getBigUint64(0, true);
}

row(
  "F2 a version other than 1 closes the connection",
  { log: [/protocol version 0, not 1/, /protocol version 3, not 1/] },
  ({ socket }) => {
    for (const version of [0, 2, 3, 8, 0xfffffffc]) {
      using client = new Client(socket);
      client.send("GET_FEATURES", undefined, { flags: version });
      assert.ok(client.closed(), `version ${version}`);
    }
  },
);

row(
  "F3 a request marked as a reply closes the connection",
  { log: [/message 1 is marked as a reply/] },
  ({ socket }) => {
    for (const extra of [0, Flag.NEED_REPLY]) {
      using client = new Client(socket);
      client.send("GET_FEATURES", undefined, { flags: Flag.VERSION | Flag.REPLY | extra });
      assert.ok(client.closed());
    }
  },
);

row(
  "F4 a payload size that the message cannot have closes the connection",
  { log: [/payload of 4294967295 bytes, not/, /SET_VRING_ADDR has a payload of 39 bytes, not 40/] },
  ({ socket }) => {
    for (const { code, name, payload } of rows) {
      const { min, max } = payloadSizes[payload];
      for (const size of [min - 1, max + 1, MAX_PAYLOAD + 1, 0x7fffffff, 0xffffffff]) {
        if (size < 0) continue;
        using client = new Client(socket);
        client.send(code, undefined, { size });
        // No payload follows: the header alone has to be enough.
        assert.ok(client.closed(), `${name} of ${size} bytes`);
      }
    }
  },
);

row(
  "F5 unknown requests are refused, or close the connection",
  { log: [/there is no message 0\b/, /there is no message 1000/] },
  ({ socket }) => {
    for (const code of [0, 46, 47, 255, 1000, 0x80000001, 0xffffffff]) {
      using g = guest();
      for (const size of [0, 8, MAX_PAYLOAD]) {
        assert.equal(g.client.ack(code, new Uint8Array(size)), "refused", `${code} with an ack`);
      }
      g.verify(g.ring(0));
      g.client.send(code);
      assert.ok(g.client.closed(), `${code} without an ack`);
      using fresh = new Client(socket);
      fresh.send(code, undefined, { flags: ASK });
      assert.ok(fresh.closed(), `${code} before negotiation`);
    }
  },
);

const withoutAck = protocolMask & ~(1n << BigInt(ProtocolFeature.REPLY_ACK));
const fdCounts = full ? Array.from({ length: 253 }, (_, i) => i + 1) : [1, 2, 3, 8, 9, 64, 253];

/** The u64 that refuses a message which has a reply of its own. */
const refusalOf = ({ reply }: MessageRow) => (reply === "ack" ? undefined : reply.refusal);

const saysRefused = (reply: ReturnType<Client["receive"]>, refusal: bigint) =>
  typeof reply !== "string" && U64.decode(reply.payload).value === refusal;

row(
  "F6 unexpected descriptors are closed, on every message",
  { log: [/GET_FEATURES carries 253 descriptors, not 0 to 0/] },
  (program) => {
    const objects = assortment();
    for (let code = 0; code <= 46; code++) {
      const known = rows.find((message) => message.code === code);
      const payload = new Uint8Array(known === undefined ? 0 : payloadSizes[known.payload].min);
      for (const count of fdCounts) {
        // Without REPLY_ACK, refusing means closing.
        using fresh = new Client(program.socket);
        fresh.send("SET_PROTOCOL_FEATURES", u64(withoutAck));
        fresh.send(code, payload, { fds: repeat(objects, count) });
        if (count <= 8) continue;
        const what = `message ${code} with ${count} descriptors`;
        if (known !== undefined && refusalOf(known) !== undefined) {
          assert.ok(saysRefused(fresh.receive(), refusalOf(known)!), what);
        } else assert.ok(fresh.closed(), what);
      }
    }
    // Refused by an acknowledgement: the connection goes on, so it must not gather them.
    using g = guest({ until: "features" });
    const before = program.holdings();
    for (const { code, payload, reply } of rows) {
      if (reply !== "ack") continue;
      const data = new Uint8Array(payloadSizes[payload].min);
      const outcome = g.client.ack(code, data, repeat(objects, 100));
      assert.equal(outcome, "refused", `message ${code} with 100 descriptors`);
    }
    assert.deepEqual(program.differences(before), [], "nothing is gathered in the session");
    for (const fd of objects) fd.close();
  },
);

row(
  "F7 missing descriptors are refused",
  {
    log: [
      /SET_MEM_TABLE names 2 regions with 1 descriptors/,
      /ADD_MEM_REG carries 2 descriptors/,
      /SET_VRING_KICK has none/,
      /SET_VRING_CALL says that no descriptor comes, with one/,
    ],
  },
  () => {
    using g = guest();
    using eventfd = createEventFd();
    const [low, high] = regions.map(({ user, offset }) => ({
      guest: offset + 2 ** 40,
      size: REGION_SIZE,
      user: user + 2 ** 40,
      offset,
    }));
    const { client, memfd } = g;
    const table = memTable([low!, high!]);
    assert.equal(client.ack("SET_MEM_TABLE", table, [memfd]), "refused");
    assert.equal(client.ack("SET_MEM_TABLE", table), "refused");
    assert.equal(client.ack("SET_MEM_TABLE", table, [memfd, memfd, memfd]), "refused");
    assert.equal(client.ack("ADD_MEM_REG", memRegion(low!)), "refused");
    assert.equal(client.ack("ADD_MEM_REG", memRegion(low!), [memfd, memfd]), "refused");
    for (const name of ["SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR"] as const) {
      assert.equal(client.ack(name, u64(0)), "refused", `${name} without its descriptor`);
      assert.equal(client.ack(name, u64(0x100), [eventfd]), "refused", `${name} with one too many`);
    }
    assert.equal(client.ack("SET_BACKEND_REQ_FD"), "refused");
    assert.equal(client.ack("SET_LOG_BASE", new Uint8Array(16)), "refused");
    g.verifyAll();
    client.send("SET_INFLIGHT_FD", new Uint8Array(24));
    assert.ok(client.ack("SET_INFLIGHT_FD", new Uint8Array(24)) !== "ok");
  },
);

row(
  "F9 descriptors that come after a message's first byte close the connection",
  { log: [/descriptors came after the first byte of a message/] },
  ({ socket }) => {
    const objects = assortment();
    const message = frame("SET_VRING_CALL", u64(0));
    for (const at of [1, 6, Header.size, Header.size + 3]) {
      using client = new Client(socket);
      client.raw(message.subarray(0, at));
      client.raw(message.subarray(at), objects);
      assert.ok(client.closed(), `descriptors with byte ${at}`);
    }
    for (const fd of objects) fd.close();
  },
);

row(
  "F10 an end within a message is a clean end",
  { log: [/ended within a message, after 1 bytes/, /ended within a message, after 19 bytes/] },
  ({ socket }) => {
    const objects = assortment();
    const message = frame("SET_VRING_CALL", u64(0));
    for (let at = 1; at < message.length; at++) {
      using client = new Client(socket);
      client.raw(message.subarray(0, at), objects);
      // Half of the ends are half-closed first, so that the back-end sees EOF with data unread.
      if (at % 2 === 0) libc.shutdown(client.socket.number, SHUT_WR);
    }
    for (const fd of objects) fd.close();
  },
);

row("F11 without REPLY_ACK nothing is acknowledged", {}, ({ socket }) => {
  using client = new Client(socket);
  for (const name of ["SET_OWNER", "RESET_OWNER"] as const) {
    client.send(name, undefined, { flags: ASK });
  }
  client.send("SET_FEATURES", u64(0), { flags: ASK });
  assert.ok(client.silent(), "no acknowledgement");
  for (const name of always) {
    client.send(name, undefined, { flags: ASK });
    const reply = client.receive(ANSWER_LIMIT);
    assert.ok(typeof reply !== "string");
    assert.equal(reply.flags, Flag.VERSION | Flag.REPLY, "a reply never carries NEED_REPLY");
  }
});

row(
  "F12 messages of features that are not negotiated are refused",
  { log: [/GET_CONFIG needs a protocol feature/, /ADD_MEM_REG needs a protocol feature/] },
  ({ socket }) => {
    for (const message of rows) {
      const { code, name, needs, payload, fds } = message;
      if (needs === undefined) continue;
      const data = new Uint8Array(payloadSizes[payload].min);
      using eventfd = createEventFd();
      const passed = Array.from({ length: fds[0] }, () => eventfd);
      using bare = new Client(socket);
      bare.send(code, data, { fds: passed });
      const refusal = refusalOf(message);
      if (refusal === undefined) assert.ok(bare.closed(), `${name} before any negotiation`);
      else assert.ok(saysRefused(bare.receive(), refusal), `${name} before any negotiation`);
      bare[Symbol.dispose]();
      using acking = new Client(socket);
      acking.send("SET_PROTOCOL_FEATURES", u64(1n << BigInt(ProtocolFeature.REPLY_ACK)));
      const outcome = acking.ack(code, data, passed);
      assert.ok(denied.includes(outcome), `${name} with REPLY_ACK alone: ${outcome}`);
    }
  },
);

row(
  "F13 protocol features that were not offered, or lack others, are refused",
  { log: [/features that were not offered: XEN_MMAP/, /not offered: bit 63/, /14 needs 3 and 5/] },
  ({ socket }) => {
    using probe = new Client(socket);
    const offered = probe.askU64("GET_PROTOCOL_FEATURES");
    probe[Symbol.dispose]();
    const alone = [ProtocolFeature.INBAND_NOTIFICATIONS, 20, 23];
    for (let bit = 0; bit < 64; bit++) {
      if (has(offered, bit) && !alone.includes(bit)) continue;
      using client = new Client(socket);
      client.send("SET_PROTOCOL_FEATURES", u64(1n << BigInt(bit)));
      assert.ok(client.closed(), `protocol feature ${bit}`);
    }
    // In-band notifications need acknowledgements and the back-end's channel, both of them.
    for (const others of [[], [3], [5]]) {
      using client = new Client(socket);
      const bits = [ProtocolFeature.INBAND_NOTIFICATIONS, ...others];
      client.send("SET_PROTOCOL_FEATURES", u64(mask(...bits)), { flags: ASK });
      assert.ok(client.closed(), `protocol features ${bits}`);
    }
    using g = guest();
    assert.ok(denied.includes(g.client.ack("SET_PROTOCOL_FEATURES", u64(2n ** 64n - 1n))));
    const without = mask(ProtocolFeature.REPLY_ACK, ProtocolFeature.INBAND_NOTIFICATIONS);
    assert.equal(g.client.ack("SET_PROTOCOL_FEATURES", u64(without)), "closed");
  },
);

row(
  "F14 features that were not offered are refused and change nothing",
  {
    log: [/features that were not offered: /, /Cannot change RING_PACKED/],
  },
  () => {
    using g = guest();
    const all = g.client.askU64("GET_FEATURES");
    // The rings that are running are split ones at user addresses, and stay so.
    assert.equal(g.client.ack("SET_FEATURES", u64(all)), "refused");
    const offered = all & ~mask(RingFeature.RING_PACKED, RingFeature.ACCESS_PLATFORM);
    for (let bit = 0; bit < 64; bit++) {
      if (has(all, bit)) continue;
      const outcome = g.client.ack("SET_FEATURES", u64(offered | (1n << BigInt(bit))));
      // QEMU's vhost-user-gpu sets RING_RESET whether it is offered or not.
      assert.equal(outcome, bit === RingFeature.RING_RESET ? "ok" : "refused", `feature ${bit}`);
    }
    g.verifyAll();
    assert.equal(g.client.ack("SET_FEATURES", u64(offered)), "ok");
    g.verifyAll();
    g.client.send("SET_FEATURES", u64(2n ** 63n));
    assert.ok(g.client.closed(), "without an acknowledgement the connection ends");
  },
);

row("F15 a second connection waits its turn and disturbs nobody", {}, (program) => {
  const objects = assortment();
  const waiting: Client[] = [];
  {
    using g = guest();
    for (let i = 0; i < 4; i++) {
      const client = new Client(program.socket);
      client.send("GET_FEATURES");
      client.send("GET_PROTOCOL_FEATURES", undefined, { fds: objects });
      waiting.push(client);
    }
    g.verifyAll();
    assert.ok(
      waiting.every((client) => client.silent()),
      "nobody else is answered",
    );
    g.verifyAll();
    assert.equal(g.client.ack("SET_OWNER"), "ok");
  }
  for (const fd of objects) fd.close();
  for (const client of waiting) {
    const reply = client.receive();
    assert.ok(typeof reply !== "string" && reply.code === 1, "the next one is served");
    client[Symbol.dispose]();
  }
});
