/** An open event device of Linux: what it tells about itself, its state, and its events. */
import {
  bytes,
  check,
  EACCES,
  EAGAIN,
  EBUSY,
  EINTR,
  EIO,
  ENODEV,
  EPERM,
  EROFS,
  EVIOCGABS,
  EVIOCGBIT,
  EVIOCGID,
  EVIOCGKEY,
  EVIOCGMTSLOTS,
  EVIOCGNAME,
  EVIOCGPROP,
  EVIOCGRAB,
  EVIOCGSW,
  EVIOCGUNIQ,
  errno,
  errnoText,
  type Fd,
  INPUT_ABSINFO,
  INPUT_EVENT,
  libc,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  openFile,
  SystemError,
} from "../../../ffi/mod.ts";
import { bitmapOf, type Description, hasBit } from "../source.ts";
import { DeviceState } from "../state.ts";
import { Abs, codeCounts, EventType } from "../wire.ts";

/** Events read at once. */
const BATCH = 64;
/** Batches thrown away before the state is asked for. The kernel keeps fewer. */
const MOST_DISCARDED = 256;
const NAME_SIZE = 256;
/** Types whose bits evdev tells; those of EV_REP it does not. */
const askable = [...codeCounts.keys()].filter((type) => type !== EventType.REP);

/** Asks for a string or a bitmap; empty when the device has none. */
function ask(fd: Fd, request: number, length: number): Uint8Array {
  const answer = bytes(length);
  const got = libc.ioctl(fd.number, request, answer);
  return got < 0 ? answer.subarray(0, 0) : answer;
}

function text(fd: Fd, request: number): string {
  const answer = ask(fd, request, NAME_SIZE);
  const end = answer.indexOf(0);
  return new TextDecoder().decode(end < 0 ? answer : answer.subarray(0, end));
}

/** Asks for the value and limits of an axis. Returns the result of `ioctl`. */
function askAxis(fd: Fd, axis: number, answer: DataView<ArrayBuffer>): number {
  return libc.ioctl(fd.number, EVIOCGABS(axis), new Uint8Array(answer.buffer));
}

const axisAnswer = () => new DataView(bytes(INPUT_ABSINFO.size).buffer);

const codesOf = (bitmap: Uint8Array | undefined, type: number): number[] =>
  Array.from({ length: codeCounts.get(type)! }, (_, code) => code).filter((code) =>
    hasBit(bitmap, code),
  );

function describe(fd: Fd): Description {
  const identity = bytes(8);
  check(libc.ioctl(fd.number, EVIOCGID, identity), "ioctl(EVIOCGID)");
  const [bus, vendor, product, version] = new Uint16Array(identity.buffer);
  const types = ask(fd, EVIOCGBIT(0, 4), 4);
  const codes = new Map<number, Uint8Array>();
  for (const type of askable) {
    if (!hasBit(types, type)) continue;
    const length = Math.ceil(codeCounts.get(type)! / 8);
    codes.set(type, ask(fd, EVIOCGBIT(type, length), length));
  }
  if (hasBit(types, EventType.REP)) codes.set(EventType.REP, bitmapOf([0, 1]));
  const axes = codesOf(codes.get(EventType.ABS), EventType.ABS).map((code) => {
    const info = axisAnswer();
    check(askAxis(fd, code, info), "ioctl(EVIOCGABS)");
    const read = (field: keyof typeof INPUT_ABSINFO) => info.getInt32(INPUT_ABSINFO[field], true);
    const [minimum, maximum] = [read("minimum"), read("maximum")];
    const rest = { fuzz: read("fuzz"), flat: read("flat"), resolution: read("resolution") };
    return [code, { minimum, maximum, ...rest }] as const;
  });
  return {
    name: text(fd, EVIOCGNAME(NAME_SIZE)),
    serial: text(fd, EVIOCGUNIQ(NAME_SIZE)),
    ids: { bus: bus!, vendor: vendor!, product: product!, version: version! },
    properties: ask(fd, EVIOCGPROP(4), 4),
    codes,
    axes: new Map(axes),
  };
}

/** Contacts that a device tells apart. */
export function slotsOf({ axes }: Description): number {
  return (axes.get(Abs.MT_SLOT)?.maximum ?? -1) + 1;
}

/** Opens for writing too, for LEDs, if that is allowed. */
function openPath(path: string): Fd {
  try {
    return openFile(path, O_RDWR | O_NONBLOCK);
  } catch (error) {
    const denied = error instanceof SystemError && [EACCES, EPERM, EROFS].includes(error.errno);
    if (!denied) throw error;
    return openFile(path, O_RDONLY | O_NONBLOCK);
  }
}

export class EvdevDevice implements Disposable {
  readonly fd: Fd;
  readonly description: Description;
  readonly #data = bytes(BATCH * INPUT_EVENT.size);
  readonly #view = new DataView(this.#data.buffer);
  /** Where what was read and not told yet begins and ends. */
  #start = 0;
  #end = 0;
  readonly #out = bytes(INPUT_EVENT.size);
  readonly #outView = new DataView(this.#out.buffer);

  /** Throws `SystemError`, of `open` when there is no such device now, and `Error` for other files. */
  constructor(path: string, grab: boolean) {
    this.fd = openPath(path);
    try {
      this.description = this.#describe(path);
      // Any pointer means yes.
      if (grab && libc.ioctl(this.fd.number, EVIOCGRAB, bytes(8)) < 0) {
        const why = errno();
        const other = "another program has grabbed it, and gets all of its events";
        throw new Error(`Cannot grab "${path}": ${why === EBUSY ? other : errnoText(why)}`);
      }
    } catch (error) {
      this.fd.close();
      throw error;
    }
  }

  #describe(path: string): Description {
    try {
      return describe(this.fd);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      if (error.errno === ENODEV) throw new SystemError("open", ENODEV, path);
      const why = errnoText(error.errno);
      throw new Error(`Cannot use "${path}" as an input device: ${why}`, { cause: error });
    }
  }

  /**
   * Reads what events there are. Returns null when there may be more later, and otherwise in words why
   * there will not.
   */
  read(event: (type: number, code: number, value: number) => void): string | null {
    const { size, type, code, value } = INPUT_EVENT;
    for (;;) {
      const got = this.#fill();
      if (got === 0) return "it is at its end";
      if (got < 0) {
        const why = errno();
        return why === EAGAIN || why === EINTR ? null : errnoText(why);
      }
      const full = this.#end === this.#data.length;
      while (this.#start + size <= this.#end) {
        const at = this.#start;
        this.#start += size;
        const view = this.#view;
        event(
          view.getUint16(at + type, true),
          view.getUint16(at + code, true),
          view.getInt32(at + value, true),
        );
      }
      if (!full) return null;
    }
  }

  /** Reads once, behind the part of an event that has come. Returns what `read` does. */
  #fill(): number {
    this.#data.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    const room = this.#data.subarray(this.#end);
    const got = libc.read(this.fd.number, room, room.length);
    if (got > 0) this.#end += got;
    return got;
  }

  /** Throws away what waits, within limits: a device may send faster than it is read. */
  #discard(): void {
    const skip = () => {
      this.#start = this.#end - (this.#end % INPUT_EVENT.size);
    };
    skip();
    for (let batches = 0; batches < MOST_DISCARDED && this.#fill() > 0; batches++) skip();
  }

  /** Sends an event to the device, as one that switches an LED. Returns the error number, or 0. */
  write(type: number, code: number, value: number): number {
    this.#outView.setUint16(INPUT_EVENT.type, type, true);
    this.#outView.setUint16(INPUT_EVENT.code, code, true);
    this.#outView.setInt32(INPUT_EVENT.value, value, true);
    const sent = libc.write(this.fd.number, this.#out, INPUT_EVENT.size);
    if (sent < 0) return errno();
    return sent === INPUT_EVENT.size ? 0 : EIO;
  }

  /**
   * Where keys, switches, axes and contacts are now. Earlier events that were not read yet are thrown
   * away: told after the state they would undo it, and of those the kernel keeps it drops some itself
   * when it is asked.
   */
  state(): DeviceState {
    this.#discard();
    const { codes } = this.description;
    const state = new DeviceState(slotsOf(this.description));
    const take = (type: number, request: (length: number) => number): void => {
      const length = Math.ceil(codeCounts.get(type)! / 8);
      const set = ask(this.fd, request(length), length);
      for (const code of codesOf(codes.get(type), type)) {
        state.apply(type, code, hasBit(set, code) ? 1 : 0);
      }
    };
    if (codes.has(EventType.KEY)) take(EventType.KEY, EVIOCGKEY);
    if (codes.has(EventType.SW)) take(EventType.SW, EVIOCGSW);
    const axes = codesOf(codes.get(EventType.ABS), EventType.ABS);
    this.#takeContacts(state, axes);
    const info = axisAnswer();
    for (const axis of axes) {
      if (axis >= Abs.MT_FIRST && axis <= Abs.MT_LAST) continue;
      // A device that has gone answers nothing; the next read tells.
      if (askAxis(this.fd, axis, info) < 0) continue;
      state.apply(EventType.ABS, axis, info.getInt32(INPUT_ABSINFO.value, true));
    }
    return state;
  }

  #takeContacts(state: DeviceState, axes: readonly number[]): void {
    const slots = slotsOf(this.description);
    const table = new Int32Array(new ArrayBuffer(4 * (slots + 1)));
    for (const axis of axes) {
      if (slots === 0 || axis < Abs.MT_FIRST || axis > Abs.MT_LAST) continue;
      table[0] = axis;
      if (libc.ioctl(this.fd.number, EVIOCGMTSLOTS(table.byteLength), table) < 0) continue;
      for (let slot = 0; slot < slots; slot++) {
        state.apply(EventType.ABS, Abs.MT_SLOT, slot);
        state.apply(EventType.ABS, axis, table[slot + 1]!);
      }
    }
  }

  [Symbol.dispose](): void {
    this.fd.close();
  }
}
