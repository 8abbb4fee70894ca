/**
 * A disk in memory that takes part in all that a device can take part in. The last byte of the MAC
 * address of SEND_RARP tells it what to do; what comes of it is in the log.
 */
import { Type } from "typebox";
import type { AnyDevice, Device, Host, Opened } from "../../core/device.ts";
import { ProtocolError } from "../../core/errors.ts";
import { blkDevice } from "../../devices/blk/mod.ts";
import { createMemfd } from "../../ffi/mod.ts";
import { MemoryStore } from "../devices/memory-store.ts";

/** Commands in the last byte of the MAC address. */
export const Command = {
  SHARE: 1,
  UNSHARE: 2,
  LOOKUP: 3,
  MAP: 4,
  UNMAP: 5,
  MAP_TOO_MUCH: 6,
  NOTIFIER: 7,
  NO_NOTIFIER: 8,
  MANY: 9,
} as const;

export const DISK_SIZE = 4 * 1024 * 1024;
export const SHARED_UUID = "01234567-89ab-cdef-0123-456789abcdef";
export const SHARED_SIZE = 0x3000;
export const REGIONS = [0x10000, 0, 0x4000] as const;
export const PAGE = 4096;

const disk = blkDevice({
  name: "parts",
  summary: "Disk that takes part in everything",
  options: Type.Object({
    stateSize: Type.Integer({ default: 100, description: "Bytes of state to save" }),
    slow: Type.Boolean({ default: false, description: "Save and load by promises" }),
  }),
  open: () => new MemoryStore(DISK_SIZE),
});

/** Bytes that tell their place, after the length of all. */
export function stateOf(size: number): Uint8Array {
  const state = new Uint8Array(size);
  for (let i = 0; i < size; i++) state[i] = i * 7 + (i >> 8);
  new DataView(state.buffer).setUint32(0, size, true);
  return state;
}

function tricks(host: Host): (command: number) => Promise<unknown> {
  const { frontEnd } = host;
  const memory = createMemfd("ringside-parts", SHARED_SIZE);
  let shared: Disposable | null = null;
  const range = { offset: PAGE, length: PAGE };
  return async (command) => {
    switch (command) {
      case Command.SHARE:
        shared = frontEnd.shareObject(SHARED_UUID, memory.number);
        return "shared";
      case Command.UNSHARE:
        shared?.[Symbol.dispose]();
        return "not shared";
      case Command.LOOKUP: {
        using fd = await frontEnd.lookupObject(SHARED_UUID);
        return fd === null ? "nothing" : `${fd.stat().size} bytes`;
      }
      case Command.MAP:
        return frontEnd.mapShared(2, { fd: memory, fdOffset: PAGE, ...range, writable: true });
      case Command.UNMAP:
        return frontEnd.unmapShared(2, range);
      case Command.MAP_TOO_MUCH:
        return frontEnd.mapShared(1, { fd: memory, ...range });
      case Command.NOTIFIER:
        return frontEnd.setHostNotifier(1, { fd: memory, offset: 0, size: PAGE });
      case Command.NO_NOTIFIER:
        return frontEnd.setHostNotifier(1, null);
      case Command.MANY: {
        const all = Array.from({ length: 500 }, () => frontEnd.unmapShared(2, range));
        const results = await Promise.allSettled(all);
        return `${results.filter(({ status }) => status === "fulfilled").length} of 500`;
      }
    }
    throw new ProtocolError(`there is no command ${command}`);
  };
}

function parts(host: Host, stateSize: number, slow: boolean): Partial<Device> {
  const perform = tricks(host);
  const sessions = new Set<bigint>();
  let next = 0n;
  const check = (state: Uint8Array): void => {
    const wanted = stateOf(Math.max(4, state.length));
    if (Buffer.compare(state, wanted) !== 0) throw new Error("the state is not one of ours");
    host.log.info("State loaded", { bytes: state.length });
  };
  const after = <T>(value: () => T): Promise<T> =>
    new Promise((resolve, reject) => {
      setTimeout(() => {
        try {
          resolve(value());
        } catch (error) {
          reject(error);
        }
      }, 20);
    });
  return {
    rarp(mac) {
      const command = mac[5]!;
      perform(command).then(
        (outcome) => host.log.info(`Command ${command}: ${outcome ?? "done"}`),
        (error) => host.log.info(`Command ${command}: ${error.message}`),
      );
    },
    mtu(bytes) {
      host.log.info("MTU set", { bytes });
    },
    createCryptoSession() {
      sessions.add(++next);
      return next;
    },
    closeCryptoSession(id) {
      if (!sessions.delete(id)) throw new ProtocolError(`there is no session ${id}`);
    },
    save: () => (slow ? after(() => stateOf(stateSize)) : stateOf(stateSize)),
    load: (state) => (slow ? after(() => check(state)) : check(state)),
  };
}

const device: AnyDevice = {
  ...disk,
  protocol: ["RARP", "NET_MTU", "CRYPTO_SESSION", "HOST_NOTIFIER", "SHARED_OBJECT", "DEVICE_STATE"],
  sharedMemory: REGIONS,
  async open(options: { stateSize: number; slow: boolean }, host: Host) {
    const opened: Opened<any, any> = await disk.open(options, host);
    const more = parts(host, options.stateSize, options.slow);
    return { ...opened, device: { ...opened.device, ...more } };
  },
};

export default device;
