/** Further checks of input devices: config space in detail, and what QEMU's front-end does. */
import { ConfigHeader } from "../../../core/payloads.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { InputConfigSpace, InputSelect } from "../../drivers/input-wire.ts";
import { type Check, expectEqual, fail, notOffered } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { config, M } from "../wire.ts";

const CONFIG = "virtio 1.3 5.8.5";
const EVENTS = "virtio 1.3 5.8.6";
const { size, select, subsel, length, data } = InputConfigSpace;

const ABS = 3;
const ABS_BYTES = 20;
const ID_BYTES = 8;
const LED = 0x11;
/** Selections that a device may describe; any other has size 0. */
const known: ReadonlySet<number> = new Set(Object.values(InputSelect));

function readSpace({ connection }: Lane): Uint8Array {
  const { payload } = connection.request(M.GET_CONFIG, config(0, size));
  return payload.subarray(ConfigHeader.size);
}

function writeSpace({ connection }: Lane, at: number, bytes: Uint8Array): void {
  const payload = config(at, bytes.length);
  payload.set(bytes, ConfigHeader.size);
  connection.command(M.SET_CONFIG, payload);
}

/** Selects, and reads what is selected. */
function ask(lane: Lane, selected: number, subselected = 0): Uint8Array {
  writeSpace(lane, select, Uint8Array.of(selected, subselected));
  const space = readSpace(lane);
  return space.subarray(data, data + space[length]!);
}

function running(play: Play): Lane {
  play.needsProtocol(ProtocolFeature.CONFIG);
  return play.running();
}

const hasBit = (bitmap: Uint8Array, bit: number) =>
  ((bitmap[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;

/** More checks of the group `input`. */
export const input: readonly Check[] = [
  {
    id: "input.I2-all-selections",
    title: "Every one of 65536 selections has at most 128 bytes, and only defined ones have any",
    source: CONFIG,
    run(play) {
      const lane = running(play);
      for (let pair = 0; pair < 0x10000; pair++) {
        writeSpace(lane, select, Uint8Array.of(pair >> 8, pair & 0xff));
        const bytes = readSpace(lane)[length]!;
        const most = known.has(pair >> 8) ? 128 : 0;
        if (bytes > most) fail(`at most ${most} bytes for 0x${pair.toString(16)}`, `${bytes}`);
      }
    },
  },
  {
    id: "input.whole-config",
    title: "A write of all 136 bytes, as QEMU makes it for one, selects like that of one byte",
    source: CONFIG,
    run(play) {
      const lane = running(play);
      const name = ask(lane, InputSelect.NAME).slice();
      ask(lane, 0);
      const space = readSpace(lane).slice();
      space[select] = InputSelect.NAME;
      space.fill(0x5a, length + 1);
      writeSpace(lane, 0, space);
      const after = readSpace(lane);
      expectEqual("a name of", after[length], name.length);
      const same = name.every((byte, i) => byte === after[data + i]);
      if (!same) fail("the name", "other bytes");
      expectEqual("subsel", after[subsel], 0);
    },
  },
  {
    id: "input.identity",
    title: "The identity has 8 bytes",
    source: CONFIG,
    run(play) {
      const answer = ask(running(play), InputSelect.IDS);
      if (answer.length === 0) notOffered("an identity");
      expectEqual("bytes:", answer.length, ID_BYTES);
    },
  },
  {
    id: "input.axes",
    title: "Each absolute axis has a range, in 20 bytes, and no other axis has one",
    source: CONFIG,
    run(play) {
      const lane = running(play);
      const axes = ask(lane, InputSelect.EVENT_BITS, ABS).slice();
      for (let axis = 0; axis < 0x40; axis++) {
        const answer = ask(lane, InputSelect.AXIS, axis);
        const wanted = hasBit(axes, axis) ? ABS_BYTES : 0;
        expectEqual(`for axis ${axis} a size of`, answer.length, wanted);
        if (wanted === 0) continue;
        const view = new DataView(answer.buffer, answer.byteOffset);
        const [minimum, maximum] = [view.getInt32(0, true), view.getInt32(4, true)];
        if (minimum > maximum) fail("a range", `${minimum} to ${maximum}`);
      }
    },
  },
  {
    id: "input.bitmaps-end",
    title: "Bitmaps end with their last bit",
    source: CONFIG,
    run(play) {
      const lane = running(play);
      for (let type = 0; type < 0x20; type++) {
        const bitmap = ask(lane, InputSelect.EVENT_BITS, type);
        if (bitmap.at(-1) === 0) fail("a last byte with bits", `0, for type ${type}`);
      }
    },
  },
  {
    id: "input.status",
    title: "Status events are taken, for LEDs that there are and for those that there are not",
    source: EVENTS,
    run(play) {
      const lane = play.running();
      for (const code of [0, 1, 2, 15, 0xffff]) {
        const event = Uint8Array.of(LED, 0, code & 0xff, code >> 8, 1, 0, 0, 0);
        lane.exchange(event, 0);
        expectEqual("a used length of", lane.written, 0);
      }
      lane.run(4);
    },
  },
];
