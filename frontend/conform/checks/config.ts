/** Config space, status and reset: rows M10 to M12 and M16. */
import { has } from "../../../core/features.ts";
import { ConfigHeader } from "../../../core/payloads.ts";
import { DeviceStatus, ProtocolFeature } from "../../../core/protocol.ts";
import { socketPair } from "../../../ffi/mod.ts";
import { type Check, expectEqual, fail, notOffered } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { ask, askU64, config, expectDenied, expectTaken, M, tell, u64 } from "../wire.ts";

const P = ProtocolFeature;
const GET = "vhost-user: GET_CONFIG";
const SET = "vhost-user: SET_CONFIG";

/** Bytes of config space to ask for. */
function configSize(play: Play): number {
  play.needsProtocol(P.CONFIG);
  return play.device === null ? 4 : play.exercise.configSize || 4;
}

/** A wrong range gets a reply of no bytes, or one whose header says so, or ends the connection. */
function refuseRange(play: Play, offset: number, size: number, bytes = size): void {
  play.needsProtocol(P.CONFIG);
  const payload = config(offset, size, Math.min(bytes, 256));
  const { answer, payload: reply } = ask(play.greet(), M.GET_CONFIG, payload);
  if (answer === "silent") fail("an answer or the end", "silence");
  if (answer === "ok" && reply.length > ConfigHeader.size) {
    fail("an empty reply or the end", `${reply.length} bytes`);
  }
  play.expectAlive();
}

/** Ranges that cannot be read; `bytes` where the payload is of another size. */
const ranges: readonly (readonly [
  name: string,
  what: string,
  offset: number,
  size: number,
  bytes?: number,
])[] = [
  ["size-0", "of no bytes", 0, 0],
  ["too-large", "of 257 bytes", 0, 257],
  ["huge", "of 4 GiB", 0, 0xffffffff],
  ["wrap", "whose end wraps", 0xfffffff0, 64],
  ["payload", "whose size is not that of its payload", 0, 64, 8],
];

/** Sets all rings of a guest up again, in new memory, and uses them. */
function startAnew(play: Play, { frontend }: Lane): void {
  const again = play.lane(frontend);
  again.start();
  again.run(4);
}

export const configuration: readonly Check[] = [
  {
    id: "config.get",
    title: "GET_CONFIG is answered with the same offset and size, and that many bytes",
    source: GET,
    run(play) {
      const size = configSize(play);
      const connection = play.greet();
      const { payload } = connection.request(M.GET_CONFIG, config(0, size));
      expectEqual("a payload of", payload.length, ConfigHeader.size + size);
      const header = ConfigHeader.decode(payload);
      expectEqual("an offset of", header.offset, 0);
      expectEqual("a size of", header.size, size);
    },
  },
  {
    id: "config.get-parts",
    title: "Config space reads the same as a whole and byte by byte",
    source: GET,
    run(play) {
      const size = configSize(play);
      const connection = play.greet();
      const whole = connection.request(M.GET_CONFIG, config(0, size)).payload;
      for (let at = 0; at < size; at++) {
        const { payload } = connection.request(M.GET_CONFIG, config(at, 1));
        expectEqual("bytes:", payload.length, ConfigHeader.size + 1);
        expectEqual(`byte ${at}:`, payload[ConfigHeader.size], whole[ConfigHeader.size + at]);
      }
    },
  },
  {
    id: "config.get-before-features",
    title: "Config space can be read before SET_FEATURES, and again while rings run",
    source: GET,
    run(play) {
      const size = configSize(play);
      const lane = play.running();
      const { payload } = lane.connection.request(M.GET_CONFIG, config(0, size));
      expectEqual("bytes:", payload.length, ConfigHeader.size + size);
      lane.run(2);
    },
  },
  ...ranges.map(
    ([name, what, offset, size, bytes]): Check => ({
      id: `config.M10-${name}`,
      title: `GET_CONFIG ${what} is refused`,
      source: GET,
      run: (play) => refuseRange(play, offset, size, bytes),
    }),
  ),
  {
    id: "config.M11-read-only",
    title: "SET_CONFIG of a read-only field is refused, or changes nothing",
    source: SET,
    run(play) {
      const size = configSize(play);
      if (play.device !== "blk") notOffered("a read-only field that is known");
      const connection = play.greet();
      const before = connection.request(M.GET_CONFIG, config(0, size)).payload;
      const payload = config(0, 8).fill(0x5a, ConfigHeader.size);
      tell(connection, M.SET_CONFIG, payload);
      play.close();
      const after = play.greet().request(M.GET_CONFIG, config(0, size)).payload;
      if (before.some((byte, i) => byte !== after[i]))
        fail("the config space as before", "changed");
    },
  },
  {
    id: "config.M11-lengths",
    title: "SET_CONFIG whose size is not that of its payload is refused",
    source: SET,
    run(play) {
      play.needsProtocol(P.CONFIG);
      expectDenied(play.greet(), "64 for 8 bytes", M.SET_CONFIG, config(0, 64, 8));
      play.expectAlive();
    },
  },
  {
    id: "config.M12-channel-twice",
    title: "A second SET_BACKEND_REQ_FD replaces the first, which is closed",
    source: "vhost-user: SET_BACKEND_REQ_FD",
    run(play) {
      play.needsProtocol(P.BACKEND_REQ);
      play.expectNoLeak(10, () => {
        const connection = play.greet();
        for (let i = 0; i < 10; i++) {
          const [own, other] = socketPair();
          play.keep(own);
          play.keep(other);
          expectTaken(connection, "a new channel", M.SET_BACKEND_REQ_FD, undefined, [other]);
        }
      });
    },
  },
  {
    id: "config.M12-channel-closed",
    title: "A channel for requests that the front-end closes harms nothing",
    source: "vhost-user: SET_BACKEND_REQ_FD",
    run(play) {
      play.needsProtocol(P.BACKEND_REQ);
      const connection = play.greet();
      const [own, other] = socketPair();
      expectTaken(connection, "a channel", M.SET_BACKEND_REQ_FD, undefined, [other]);
      own.close();
      other.close();
      play.pause(20);
      connection.request(M.GET_FEATURES);
      play.expectAlive();
    },
  },
  {
    id: "status.kept",
    title: "GET_STATUS returns what SET_STATUS set",
    source: "vhost-user: SET_STATUS",
    run(play) {
      play.needsProtocol(P.STATUS);
      const { connection } = play.guest();
      const { ACKNOWLEDGE, DRIVER, FEATURES_OK } = DeviceStatus;
      const wanted = ACKNOWLEDGE | DRIVER | FEATURES_OK;
      connection.command(M.SET_STATUS, u64(wanted));
      expectEqual("a status of", Number(askU64(connection, M.GET_STATUS)), wanted);
    },
  },
  {
    id: "status.M16-reset-running",
    title: "SET_STATUS 0 while rings run stops them, and all can be set up again",
    source: "vhost-user: SET_STATUS",
    run(play) {
      play.needsProtocol(P.STATUS);
      const lane = play.running();
      lane.run(4);
      lane.frontend.setStatus(0);
      expectEqual("a status of", lane.frontend.getStatus(), 0);
      for (const vring of lane.vrings) lane.frontend.stopVring(vring);
      lane.frontend.acceptFeatures();
      startAnew(play, lane);
    },
  },
  {
    id: "status.reset-device",
    title: "RESET_DEVICE while rings run stops them, and all can be set up again",
    source: "vhost-user: RESET_DEVICE",
    run(play) {
      play.needsProtocol(P.RESET_DEVICE);
      const lane = play.running();
      lane.run(4);
      lane.connection.command(M.RESET_DEVICE);
      const { ring } = lane.vring;
      const shown = ring.shownUsedIndex;
      lane.submit();
      lane.forceKick();
      play.pause();
      expectEqual("a used index that stays", ring.shownUsedIndex, shown);
      if (has(lane.frontend.agreed.protocol, P.STATUS)) lane.frontend.acceptFeatures();
      startAnew(play, lane);
    },
  },
];
