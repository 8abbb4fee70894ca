/** Headers, sizes and descriptors of messages, right and wrong: rows F1 to F15. */
import { mask, VhostFeature } from "../../../core/features.ts";
import { Header, payloadSizes, U64 } from "../../../core/payloads.ts";
import { Flag, type MessageRow, ProtocolFeature } from "../../../core/protocol.ts";
import { createEventFd } from "../../../ffi/mod.ts";
import type { Connection } from "../../connection.ts";
import { protocolFeatures } from "../../negotiation.ts";
import { memoryTable } from "../../raw-regions.ts";
import { type Check, expectEqual, fail } from "../check.ts";
import type { Play } from "../play.ts";
import { ask, askU64, expectDenied, M, rawReply, u64, vringState } from "../wire.ts";

const P = ProtocolFeature;
const HEADER = "vhost-user: Header";
const MESSAGE = "vhost-user: Message Specification";
const ACK = "vhost-user: REPLY_ACK";
const PROTOCOL = "vhost-user: Protocol features";
const FDS = "vhost-user: Ancillary data";

const VERSION = Flag.VERSION;
const NEED_REPLY = Flag.VERSION | Flag.NEED_REPLY;

/** A message's bytes, with any header. */
export function frame(
  request: number,
  payload: Uint8Array = new Uint8Array(0),
  flags: number = VERSION,
  size: number = payload.length,
): Uint8Array {
  const bytes = new Uint8Array(Header.size + payload.length);
  Header.encode({ request, flags, size }, bytes);
  bytes.set(payload, Header.size);
  return bytes;
}

const join = (...parts: readonly Uint8Array[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((part) => [...part]));

const features = (): Uint8Array => frame(M.GET_FEATURES.code);

/** Fails unless the connection ends; the end may take a while, so `milliseconds` are given. */
function expectEnd(play: Play, connection: Connection, what: string): void {
  if (!connection.endsWithin(play.timeout)) fail(`${what} to end the connection`, "it goes on");
  play.expectAlive();
}

function expectQuiet(connection: Connection, what: string): void {
  const more = connection.receiveRaw(64, 60);
  if (more === null) return;
  fail(what, more.length === 0 ? "the end of the connection" : `${more.length} bytes more`);
}

/** Messages whose payload has one size, and that need nothing negotiated. */
const fixed: readonly MessageRow[] = [
  M.SET_FEATURES,
  M.SET_VRING_NUM,
  M.SET_VRING_BASE,
  M.SET_VRING_ADDR,
  M.SET_VRING_ENABLE,
  M.SET_PROTOCOL_FEATURES,
];

/** Sends each message with a payload of a wrong size, each on a connection of its own. */
function wrongSizes(play: Play, change: number): void {
  for (const row of fixed) {
    const connection = play.greet();
    const { min } = payloadSizes[row.payload];
    const payload = new Uint8Array(min + change);
    const flags = connection.acknowledged ? NEED_REPLY : VERSION;
    connection.sendRaw(join(frame(row.code, payload, flags), features()));
    const bytes = connection.receiveRaw(Header.size + U64.size, play.timeout);
    if (bytes === null) fail(`${row.name} of ${payload.length} bytes to be refused`, "silence");
    if (bytes.length < Header.size + U64.size || !connection.acknowledged) continue;
    const { request } = Header.decode(bytes);
    const { value } = U64.decode(bytes, Header.size);
    if (request === row.code && value === 0n) {
      fail(`${row.name} of ${payload.length} bytes to be refused`, "an acknowledgement of 0");
    }
    play.close();
  }
  play.expectAlive();
}

/** Fails unless `message` is answered by a u64 whose header has no flags but those of all answers. */
function expectPlainAnswer(connection: Connection, message: Uint8Array): void {
  connection.sendRaw(message);
  const { flags, size } = rawReply(connection);
  expectEqual("flags", `0x${flags.toString(16)}`, "0x5");
  expectEqual("a payload of", size, U64.size);
}

export const framing: readonly Check[] = [
  {
    id: "framing.reply-flags",
    title: "Replies carry exactly version 1 and the reply bit",
    source: HEADER,
    run: (play) => expectPlainAnswer(play.connect(), features()),
  },
  {
    id: "framing.need-reply-not-echoed",
    title: "NEED_REPLY is not echoed in an acknowledgement",
    source: HEADER,
    run(play) {
      play.needsProtocol(P.REPLY_ACK);
      const accepted = u64(play.offer.features & mask(32));
      expectPlainAnswer(play.greet(), frame(M.SET_FEATURES.code, accepted, NEED_REPLY));
    },
  },
  {
    id: "framing.need-reply-not-echoed-in-reply",
    title: "NEED_REPLY is not echoed in a reply either",
    source: HEADER,
    run(play) {
      play.needsProtocol(P.REPLY_ACK);
      expectPlainAnswer(play.greet(), frame(M.GET_FEATURES.code, undefined, NEED_REPLY));
    },
  },
  {
    id: "framing.one-answer",
    title: "A message with a reply of its own gets no acknowledgement besides",
    source: ACK,
    run(play) {
      play.needsProtocol(P.REPLY_ACK);
      const connection = play.greet();
      connection.sendRaw(frame(M.GET_FEATURES.code, undefined, NEED_REPLY));
      rawReply(connection);
      expectQuiet(connection, "nothing after the reply");
    },
  },
  {
    id: "framing.order",
    title: "Requests that come together are answered one by one, in their order",
    source: MESSAGE,
    run(play) {
      play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
      const connection = play.connect();
      const rows = [M.GET_FEATURES, M.GET_PROTOCOL_FEATURES];
      const order = Array.from({ length: 16 }, (_, i) => rows[(i >> 1) % 2]!);
      connection.sendRaw(Uint8Array.from(order.flatMap(({ code }) => [...frame(code)])));
      for (const row of order) connection.reply(row);
    },
  },
  {
    id: "framing.F1-split-header",
    title: "A message that comes byte by byte is understood",
    source: MESSAGE,
    run(play) {
      const connection = play.connect();
      for (const byte of features()) {
        connection.sendRaw(Uint8Array.of(byte));
        play.pause(1);
      }
      connection.reply(M.GET_FEATURES);
    },
  },
  {
    id: "framing.F1-split-payload",
    title: "A payload that comes after its header, in parts, is understood",
    source: MESSAGE,
    run(play) {
      play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
      const connection = play.connect();
      const message = frame(M.SET_PROTOCOL_FEATURES.code, u64(play.offer.protocol & mask(P.MQ)));
      for (const [from, to] of [
        [0, 12],
        [12, 15],
        [15, 20],
      ]) {
        connection.sendRaw(message.subarray(from, to));
        play.pause(5);
      }
      connection.request(M.GET_FEATURES);
    },
  },
  {
    id: "framing.F1-coalesced",
    title: "Several messages in one write are all understood",
    source: MESSAGE,
    run(play) {
      const connection = play.connect();
      const own = frame(M.SET_OWNER.code);
      connection.sendRaw(join(features(), own, features(), features()));
      for (let i = 0; i < 3; i++) connection.reply(M.GET_FEATURES);
    },
  },
  {
    id: "framing.F2-version",
    title: "A version other than 1 ends the connection",
    source: HEADER,
    run(play) {
      const connection = play.connect();
      connection.sendRaw(frame(M.GET_FEATURES.code, undefined, 2));
      expectEnd(play, connection, "version 2");
    },
  },
  {
    id: "framing.F3-reply-flag",
    title: "A request with the reply bit ends the connection",
    source: HEADER,
    run(play) {
      const connection = play.connect();
      connection.sendRaw(frame(M.GET_FEATURES.code, undefined, VERSION | Flag.REPLY));
      expectEnd(play, connection, "the reply bit");
    },
  },
  {
    id: "framing.F4-size-huge",
    title: "A size of 4 GiB ends the connection",
    source: HEADER,
    run(play) {
      const connection = play.connect();
      connection.sendRaw(frame(M.SET_FEATURES.code, u64(0), VERSION, 0xffffffff));
      expectEnd(play, connection, "a size of 0xffffffff");
    },
  },
  {
    id: "framing.F4-size-short",
    title: "A payload one byte short is refused",
    source: MESSAGE,
    run: (play) => wrongSizes(play, -1),
  },
  {
    id: "framing.F4-size-long",
    title: "A payload one byte long is refused",
    source: MESSAGE,
    run: (play) => wrongSizes(play, 1),
  },
  ...([0, 46, 1000] as const).map(
    (code): Check => ({
      id: `framing.F5-request-${code}`,
      title: `Request ${code}, which does not exist, is refused or ends the connection`,
      source: MESSAGE,
      run(play) {
        const row: MessageRow = { ...M.SET_OWNER, code, name: `request ${code}` };
        expectDenied(play.greet(), row.name, row);
        play.close();
        const plain = play.connect();
        plain.sendRaw(join(frame(code), features()));
        if (plain.receiveRaw(64, play.timeout) === null) fail("an answer or the end", "silence");
        play.expectAlive();
      },
    }),
  ),
  {
    id: "framing.F6-unexpected-fds",
    title: "Descriptors that nobody asked for are closed",
    source: FDS,
    run(play) {
      using fd = createEventFd();
      play.expectNoLeak(10, () => {
        for (const row of [M.GET_FEATURES, M.SET_OWNER, M.GET_PROTOCOL_FEATURES, M.SET_VRING_NUM]) {
          const connection = play.greet();
          const payload = row === M.SET_VRING_NUM ? vringState(0, 64) : new Uint8Array(0);
          connection.sendRaw(frame(row.code, payload), Array(8).fill(fd));
          connection.receiveRaw(64, 20);
          play.close();
        }
      });
    },
  },
  {
    id: "framing.F6-many-fds",
    title: "250 descriptors with one message do not end the program",
    source: FDS,
    run(play) {
      using fd = createEventFd();
      const connection = play.connect();
      connection.sendRaw(features(), Array(250).fill(fd));
      connection.receiveRaw(64, 100);
      play.expectAlive();
    },
  },
  {
    id: "framing.F7-kick-without-fd",
    title: "SET_VRING_KICK that announces a descriptor and has none is refused",
    source: "vhost-user: SET_VRING_KICK",
    run(play) {
      expectDenied(play.greet(), "a missing descriptor", M.SET_VRING_KICK, u64(0));
      play.expectAlive();
    },
  },
  {
    id: "framing.F7-memory-without-fd",
    title: "SET_MEM_TABLE of two regions with one descriptor is refused",
    source: "vhost-user: SET_MEM_TABLE",
    run(play) {
      const memory = play.memory({ regions: 2, size: 2 ** 20 });
      const regions = memory.regions.map(({ plan }) => ({
        guest: plan.guestAddress,
        size: plan.size,
        user: plan.userAddress,
        offset: plan.offset,
      }));
      const fds = [memory.regions[0]!.fd];
      expectDenied(play.greet(), "one of two", M.SET_MEM_TABLE, memoryTable(regions), fds);
      play.expectAlive();
    },
  },
  {
    id: "framing.F7-slot-without-fd",
    title: "ADD_MEM_REG without a descriptor is refused",
    source: "vhost-user: ADD_MEM_REG",
    run(play) {
      play.needsProtocol(P.CONFIGURE_MEM_SLOTS);
      const region = new Uint8Array(40);
      new DataView(region.buffer).setBigUint64(16, 4096n, true);
      expectDenied(play.greet(), "no descriptor", M.ADD_MEM_REG, region);
      play.expectAlive();
    },
  },
  {
    id: "framing.F9-fds-on-payload",
    title: "Descriptors that come with a payload's bytes are closed",
    source: FDS,
    run(play) {
      using fd = createEventFd();
      play.expectNoLeak(20, () => {
        const connection = play.connect();
        const message = frame(M.SET_FEATURES.code, u64(play.offer.features & mask(32)));
        connection.sendRaw(message.subarray(0, 12));
        connection.sendRaw(message.subarray(12), Array(4).fill(fd));
        connection.receiveRaw(64, 5);
      });
    },
  },
  {
    id: "framing.F10-eof-header",
    title: "A connection that ends within a header is cleaned up, and the next one served",
    source: MESSAGE,
    run(play) {
      play.needsReconnect();
      play.connect().sendRaw(features().subarray(0, 5));
      play.expectAlive();
    },
  },
  {
    id: "framing.F10-eof-payload",
    title: "A connection that ends within a payload is cleaned up, and the next one served",
    source: MESSAGE,
    run(play) {
      play.needsReconnect();
      play.connect().sendRaw(frame(M.SET_FEATURES.code, u64(0)).subarray(0, 15));
      play.expectAlive();
    },
  },
  {
    id: "framing.F11-need-reply-ignored",
    title: "Without REPLY_ACK nothing is acknowledged, whatever the flag says",
    source: ACK,
    run(play) {
      const connection = play.connect();
      askU64(connection, M.GET_FEATURES);
      connection.sendRaw(frame(M.SET_OWNER.code, undefined, NEED_REPLY));
      connection.request(M.GET_FEATURES);
      expectQuiet(connection, "no acknowledgement");
    },
  },
  ...(
    [
      ["config", "GET_CONFIG", P.CONFIG, new Uint8Array(16)],
      ["slots", "GET_MAX_MEM_SLOTS", P.CONFIGURE_MEM_SLOTS, new Uint8Array(0)],
      ["inflight", "GET_INFLIGHT_FD", P.INFLIGHT_SHMFD, new Uint8Array(24)],
      ["status", "GET_STATUS", P.STATUS, new Uint8Array(0)],
      ["shmem", "GET_SHMEM_CONFIG", P.SHMEM, new Uint8Array(0)],
    ] as const
  ).map(
    ([name, message, needs, payload]): Check => ({
      id: `framing.F12-${name}`,
      title: `${message} is refused when its protocol feature is not negotiated`,
      source: PROTOCOL,
      run(play) {
        const connection = play.greet(protocolFeatures & ~mask(needs));
        const { answer } = ask(connection, M[message], payload);
        if (answer === "ok") fail(`${message} to end the connection`, "a reply");
        play.expectAlive();
      },
    }),
  ),
  {
    id: "framing.F15-second-connection",
    title: "A second connection does not disturb the first",
    source: "vhost-user: Communication",
    run(play) {
      play.needsReconnect();
      const first = play.greet();
      using second = play.target.connect();
      play.pause();
      first.request(M.GET_FEATURES);
      second.close();
      play.pause(10);
      first.request(M.GET_FEATURES);
    },
  },
];
