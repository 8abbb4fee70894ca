/** Entropy, network, input and graphics devices. */
import { ConfigHeader } from "../../../core/payloads.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { type Check, expectEqual, fail } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { config, M } from "../wire.ts";

const RNG = "virtio 1.3 5.4.6";
const NET = "virtio 1.3 5.1";
const INPUT = "virtio 1.3 5.8.5";
const GPU = "virtio 1.3 5.7";

const none = new Uint8Array(0);

/** Reads config space by itself. */
function readConfig({ connection }: Lane, offset: number, size: number): Uint8Array {
  const { payload } = connection.request(M.GET_CONFIG, config(offset, size));
  return payload.subarray(ConfigHeader.size);
}

const rng: readonly Check[] = [
  {
    id: "rng.fills-all",
    title: "A buffer of 4 KiB gets entropy to its end, as the used length says",
    source: RNG,
    run(play) {
      const lane = play.running();
      for (const pieces of [1, 4]) {
        const answer = lane.exchange(none, 4000, { pieces });
        if (answer.length === 0) fail("entropy", "none");
        const tail = answer.subarray(Math.max(0, answer.length - 64));
        if (tail.every((byte) => byte === tail[0])) fail("entropy to the end", "equal bytes");
      }
    },
  },
  {
    id: "rng.differs",
    title: "No two answers are the same",
    source: RNG,
    run(play) {
      const lane = play.running();
      const seen = new Set<string>();
      for (let i = 0; i < 50; i++) seen.add(lane.exchange(none, 16).join());
      expectEqual("different answers:", seen.size, 50);
    },
  },
  {
    id: "rng.one-byte",
    title: "A buffer of one byte gets one",
    source: RNG,
    run: (play) => expectEqual("bytes:", play.running().exchange(none, 1).length, 1),
  },
];

const MAC = 5;

const net: readonly Check[] = [
  {
    id: "net.transmit",
    title: "Frames of 60 to 1514 bytes are taken, and nothing is written to them",
    source: `${NET}.6.2`,
    run(play) {
      const lane = play.running();
      for (const size of [60, 61, 500, 1514]) {
        const { out } = lane.exercise.request(0);
        const frame = new Uint8Array(12 + size);
        frame.set(out);
        lane.exchange(frame, 0);
        expectEqual("a used length of", lane.written, 0);
      }
    },
  },
  {
    id: "net.N1-short",
    title: "A frame that is shorter than its header is dropped",
    source: `${NET}.6.2`,
    run(play) {
      const lane = play.running();
      lane.exchange(new Uint8Array(5), 0);
      lane.exchange(new Uint8Array(12), 0);
      lane.run(4);
    },
  },
  {
    id: "net.mac",
    title: "The MAC address in config space is one of a single station",
    source: `${NET}.4`,
    run(play) {
      play.needsFeature(MAC);
      play.needsProtocol(ProtocolFeature.CONFIG);
      const [first] = readConfig(play.running(), 0, 6);
      if ((first! & 1) !== 0) fail("a unicast address", `0x${first!.toString(16)}:...`);
    },
  },
];

/** Asks an input device for one of its descriptions. */
function select(play: Play, lane: Lane, selected: number, subselected: number): Uint8Array {
  play.needsProtocol(ProtocolFeature.CONFIG);
  const payload = config(0, 2);
  payload[ConfigHeader.size] = selected;
  payload[ConfigHeader.size + 1] = subselected;
  lane.connection.command(M.SET_CONFIG, payload);
  const answer = readConfig(lane, 0, 136);
  return answer.subarray(8, 8 + answer[2]!);
}

const ID_NAME = 0x01;
const EV_BITS = 0x11;
const EV_TYPES = [1, 2, 3];

const input: readonly Check[] = [
  {
    id: "input.name",
    title: "The device has a name",
    source: INPUT,
    run(play) {
      if (select(play, play.running(), ID_NAME, 0).length === 0) fail("a name", "none");
    },
  },
  {
    id: "input.events",
    title: "The device has keys, or relative or absolute axes",
    source: INPUT,
    run(play) {
      const lane = play.running();
      const sizes = EV_TYPES.map((type) => select(play, lane, EV_BITS, type).length);
      if (sizes.every((size) => size === 0)) fail("events of some type", "none");
    },
  },
  {
    id: "input.I2-unknown-selection",
    title: "A selection that means nothing has size 0",
    source: INPUT,
    run(play) {
      const lane = play.running();
      for (const [selected, subselected] of [
        [0, 0],
        [0x77, 3],
        [EV_BITS, 0xee],
      ]) {
        expectEqual("a size of", select(play, lane, selected!, subselected!).length, 0);
      }
    },
  },
  {
    id: "input.I1-garbage-status",
    title: "Status events of a wrong size are taken and ignored",
    source: INPUT,
    run(play) {
      const lane = play.running();
      for (const size of [1, 7, 9, 1000]) lane.exchange(new Uint8Array(size).fill(0xff), 0);
      lane.run(4);
    },
  },
];

const gpuCommand = (type: number, length: number, ...words: readonly number[]): Uint8Array => {
  const out = new Uint8Array(length);
  const view = new DataView(out.buffer);
  view.setUint32(0, type, true);
  words.forEach((word, i) => {
    view.setUint32(24 + 4 * i, word, true);
  });
  return out;
};

const responseType = (answer: Uint8Array): number =>
  answer.length < 4 ? 0 : new DataView(answer.buffer, answer.byteOffset).getUint32(0, true);

const RESP_OK = 0x1100;
const isError = (type: number): boolean => type >= 0x1200 && type < 0x1300;

const gpu: readonly Check[] = [
  {
    id: "gpu.scanouts",
    title: "Config space names at most 16 scanouts",
    source: `${GPU}.4`,
    run(play) {
      play.needsProtocol(ProtocolFeature.CONFIG);
      const bytes = readConfig(play.running(), 0, 16);
      const count = new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true);
      // None where the front-end decides how many there are, as QEMU does.
      if (count > 16) fail("at most 16", `${count}`);
    },
  },
  {
    id: "gpu.resource",
    title: "A resource can be created and given up",
    source: `${GPU}.6.8`,
    run(play) {
      const lane = play.running();
      const B8G8R8X8 = 2;
      const create = lane.exchange(gpuCommand(0x0101, 40, 7, B8G8R8X8, 64, 64), 24);
      expectEqual("a response of", responseType(create), RESP_OK);
      const unref = lane.exchange(gpuCommand(0x0102, 32, 7), 24);
      expectEqual("a response of", responseType(unref), RESP_OK);
    },
  },
  {
    id: "gpu.G1-resources",
    title: "Resources of id 0, an unknown format or no size are refused",
    source: `${GPU}.6.8`,
    run(play) {
      const lane = play.running();
      for (const [id, format, width, height] of [
        [0, 2, 64, 64],
        [8, 0x777, 64, 64],
        [9, 2, 0x40000000, 0x40000000],
      ]) {
        const create = gpuCommand(0x0101, 40, id!, format!, width!, height!);
        const type = responseType(lane.exchange(create, 24));
        if (!isError(type)) fail("an error", `0x${type.toString(16)}`);
      }
      lane.run(4);
    },
  },
  {
    id: "gpu.G4-scanout",
    title: "A scanout that there is not is refused",
    source: `${GPU}.6.8`,
    run(play) {
      const lane = play.running();
      const type = responseType(lane.exchange(gpuCommand(0x0103, 48, 0, 0, 64, 64, 77, 1), 24));
      if (!isError(type)) fail("an error", `0x${type.toString(16)}`);
    },
  },
  {
    id: "gpu.unknown-command",
    title: "An unknown command is answered by an error",
    source: `${GPU}.6.7`,
    run(play) {
      const lane = play.running();
      const type = responseType(lane.exchange(gpuCommand(0x01ff, 24), 24));
      if (!isError(type)) fail("an error", `0x${type.toString(16)}`);
      lane.run(4);
    },
  },
  {
    id: "gpu.fence",
    title: "A fence comes back with the response",
    source: `${GPU}.6.7`,
    run(play) {
      const lane = play.running();
      const command = gpuCommand(0x0102, 32, 0x7777);
      const view = new DataView(command.buffer);
      view.setUint32(4, 1, true);
      view.setBigUint64(8, 0x1234n, true);
      const answer = lane.exchange(command, 24);
      const got = new DataView(answer.buffer, answer.byteOffset);
      expectEqual("flags", got.getUint32(4, true) & 1, 1);
      expectEqual("fence", got.getBigUint64(8, true), 0x1234n);
    },
  },
];

/** Checks by the device that they are for; another device has none of them. */
export const deviceChecks = { rng, net, input, gpu } as const;
