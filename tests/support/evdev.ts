/** An event device for a back-end under test: what the library made of fake-evdev.c talks to. */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import {
  accept,
  bytes,
  EAGAIN,
  errno,
  type Fd,
  INPUT_ABSINFO,
  INPUT_EVENT,
  libc,
  listenUnix,
} from "../../ffi/mod.ts";
import { buildTool } from "../tools/build.ts";
import { Folder } from "./folder.ts";
import { until } from "./program.ts";

export type Triple = readonly [type: number, code: number, value: number];

export interface EvdevPlan {
  readonly name?: string;
  readonly serial?: string;
  readonly ids?: readonly [bus: number, vendor: number, product: number, version: number];
  readonly properties?: readonly number[];
  /** Codes by type. */
  readonly codes?: Readonly<Record<number, readonly number[]>>;
  /** Value, minimum, maximum, fuzz, flat and resolution by axis. */
  readonly axes?: Readonly<Record<number, readonly number[]>>;
  /** Keys and switches that are on when the device is asked. */
  readonly down?: readonly number[];
  readonly switches?: readonly number[];
  /** Values of the contacts by axis. */
  readonly contacts?: Readonly<Record<number, readonly number[]>>;
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function bitmap(bits: readonly number[]): Uint8Array {
  const map = new Uint8Array(96);
  for (const bit of bits) map[bit >> 3]! |= 1 << (bit & 7);
  return map;
}

const words = (values: readonly number[]): Uint8Array =>
  new Uint8Array(Int32Array.from(values).buffer);

/** The lines of the file of answers. */
function answersOf(plan: EvdevPlan): string {
  const { name = "Fake", serial = "", ids = [3, 0x1d6b, 0x104, 0x111], codes = {} } = plan;
  const types = [0, ...Object.keys(codes).map(Number)];
  const rows: [number, Uint8Array][] = [
    [0x02, new Uint8Array(Uint16Array.from(ids).buffer)],
    [0x06, text(name)],
    [0x08, text(serial)],
    [0x09, bitmap(plan.properties ?? []).subarray(0, 4)],
    [0x18, bitmap(plan.down ?? [])],
    [0x1b, bitmap(plan.switches ?? []).subarray(0, 8)],
    [0x20, bitmap(types).subarray(0, 4)],
  ];
  for (const [type, list] of Object.entries(codes)) {
    // As in the kernel, which does not tell what settings of repetition there are.
    if (Number(type) !== 0x14) rows.push([0x20 + Number(type), bitmap(list)]);
  }
  for (const [axis, info] of Object.entries(plan.axes ?? {})) {
    rows.push([0x40 + Number(axis), words(info).subarray(0, INPUT_ABSINFO.size)]);
  }
  for (const [axis, values] of Object.entries(plan.contacts ?? {})) {
    rows.push([(Number(axis) << 8) | 0x0a, words(values)]);
  }
  const hex = (data: Uint8Array) => Array.from(data, (b) => b.toString(16).padStart(2, "0"));
  return rows.map(([number, data]) => `${number.toString(16)} ${hex(data).join("")}\n`).join("");
}

export class FakeEvdev implements Disposable {
  readonly folder = new Folder();
  readonly path: string = this.folder.at("event0");
  #listener: Fd | null = null;
  #device: Fd | null = null;

  constructor(plan: EvdevPlan, pluggedIn = true) {
    this.answer(plan);
    if (pluggedIn) this.plugIn();
  }

  /** What the back-end's process needs. */
  get env(): Record<string, string> {
    return {
      RINGSIDE_LIBC: buildTool("tests/tools/fake-evdev.c", { shared: true }),
      RINGSIDE_FAKE_EVDEV: this.path,
    };
  }

  /** Answers requests like this from now on. */
  answer(plan: EvdevPlan): void {
    writeFileSync(`${this.path}.answers`, answersOf(plan));
  }

  plugIn(): void {
    rmSync(`${this.path}.unplugged`, { force: true });
    this.#listener = listenUnix(`${this.path}.sock`);
  }

  /** Ends the device: by end of file, or as the kernel does it when it is unplugged. */
  unplug(how: "EOF" | "ENODEV"): void {
    if (how === "ENODEV") writeFileSync(`${this.path}.unplugged`, "");
    this.#listener?.close();
    rmSync(`${this.path}.sock`, { force: true });
    this.device.close();
    this.#device = null;
  }

  /** How often it was grabbed. */
  get grabs(): number {
    return existsSync(`${this.path}.grabs`) ? readFileSync(`${this.path}.grabs`).length : 0;
  }

  /** The back-end's connection, which stands for the open device. */
  get device(): Fd {
    this.#device ??= until(() => accept(this.#listener!), "opening the device");
    return this.#device;
  }

  /** Emits events, the last of which should be a SYN_REPORT. */
  emit(...events: readonly Triple[]): void {
    const data = bytes(events.length * INPUT_EVENT.size);
    const view = new DataView(data.buffer);
    events.forEach(([type, code, value], i) => {
      const at = i * INPUT_EVENT.size;
      view.setUint16(at + INPUT_EVENT.type, type, true);
      view.setUint16(at + INPUT_EVENT.code, code, true);
      view.setInt32(at + INPUT_EVENT.value, value, true);
    });
    this.write(data);
  }

  /** Sends bytes as they are. */
  write(data: Uint8Array<ArrayBuffer>): void {
    for (let done = 0; done < data.length; ) {
      const part = data.subarray(done);
      const sent = libc.write(this.device.number, part, part.length);
      if (sent < 0 && errno() !== EAGAIN) throw new Error("the device is closed");
      done += Math.max(0, sent);
    }
  }

  /** The next `count` events that were written to the device. */
  written(count: number): Triple[] {
    const data = bytes(count * INPUT_EVENT.size);
    let done = 0;
    until(() => {
      const room = data.subarray(done);
      done += Math.max(0, libc.read(this.device.number, room, room.length));
      return done === data.length ? true : null;
    }, `writing ${count} events`);
    const view = new DataView(data.buffer);
    return Array.from({ length: count }, (_, i) => {
      const at = i * INPUT_EVENT.size;
      return [
        view.getUint16(at + INPUT_EVENT.type, true),
        view.getUint16(at + INPUT_EVENT.code, true),
        view.getInt32(at + INPUT_EVENT.value, true),
      ] as const;
    });
  }

  [Symbol.dispose](): void {
    this.#device?.close();
    this.#listener?.close();
    this.folder[Symbol.dispose]();
  }
}
