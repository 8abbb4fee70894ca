/** A harmless request for each kind of device, whose outcome is known. */
import { mask } from "../../core/features.ts";
import { BlkConfigSpace, BlkFeature, BlkRequest, SECTOR } from "../drivers/blk-wire.ts";
import { fillPattern, isPattern } from "../pattern.ts";
import type { Lane } from "./lane.ts";

export const deviceKinds = ["blk", "net", "input", "gpu", "rng"] as const;
export type DeviceKind = (typeof deviceKinds)[number];

export interface Request {
  /** What the device reads. */
  readonly out: Uint8Array;
  /** Bytes that it may write. */
  readonly room: number;
  /** Bytes that it has to write; null when that is its choice. */
  readonly written: number | null;
  /** Says what is wrong with the answer, or null. */
  readonly verify?: (answer: Uint8Array, written: number) => string | null;
}

export interface Exercise {
  /** Vrings to set up, and the one that takes the requests. */
  readonly vrings: number;
  readonly queue: number;
  /** Device features to accept where they are offered. */
  readonly features: bigint;
  /** Bytes of config space that the device has at least. */
  readonly configSize: number;
  /** Gives the device what later requests find, on a vring that runs. */
  readonly prepare?: (lane: Lane) => void;
  readonly request: (serial: number) => Request;
}

/** Sectors at the start of a disk that checks write to. */
export const SCRATCH_SECTORS = 64;

/** A block request: its header, and data for the device. */
export function blkRequest(type: number, sector: number | bigint, data?: Uint8Array): Uint8Array {
  const out = new Uint8Array(16 + (data?.length ?? 0));
  const view = new DataView(out.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt.asUintN(64, BigInt(sector)), true);
  if (data !== undefined) out.set(data, 16);
  return out;
}

/** The content of a scratch sector. */
export function sectorPattern(sector: number): Uint8Array {
  const words = new Uint32Array(SECTOR / 4);
  fillPattern(words, 0, words.length, sector, 1);
  return new Uint8Array(words.buffer);
}

function verifySector(sector: number, answer: Uint8Array): string | null {
  const status = answer[SECTOR];
  if (status !== 0) return `the status byte of a read is ${status}, not 0`;
  const words = new Uint32Array(answer.slice(0, SECTOR).buffer);
  return isPattern(words, 0, words.length, sector, 1)
    ? null
    : `sector ${sector} does not hold what was written to it`;
}

function blk(): Exercise {
  // Nothing is written to a disk that is read-only.
  let prepared = false;
  return {
    vrings: 1,
    queue: 0,
    features: mask(BlkFeature.RO, BlkFeature.BLK_SIZE, BlkFeature.FLUSH, BlkFeature.MQ),
    configSize: BlkConfigSpace.offset.writeback,
    prepare(lane) {
      if (lane.frontend.features & mask(BlkFeature.RO) || prepared) return;
      const data = new Uint8Array(SCRATCH_SECTORS * SECTOR);
      for (let i = 0; i < SCRATCH_SECTORS; i++) data.set(sectorPattern(i), i * SECTOR);
      for (let at = 0; at < SCRATCH_SECTORS; at += 2) {
        const part = data.subarray(at * SECTOR, (at + 2) * SECTOR);
        const [status] = lane.exchange(blkRequest(BlkRequest.OUT, at, part), 1);
        if (status !== 0) throw new Error(`Cannot write to the disk: status ${status}`);
      }
      prepared = true;
    },
    request(serial) {
      const sector = serial % SCRATCH_SECTORS;
      return {
        out: blkRequest(BlkRequest.IN, sector),
        room: SECTOR + 1,
        written: SECTOR + 1,
        verify: (answer) => {
          if (prepared) return verifySector(sector, answer);
          return answer[SECTOR] === 0 ? null : `the status of a read is ${answer[SECTOR]}`;
        },
      };
    },
  };
}

const RNG_ROOM = 64;

const rng = (): Exercise => ({
  vrings: 1,
  queue: 0,
  features: 0n,
  configSize: 0,
  request: () => ({
    out: new Uint8Array(0),
    room: RNG_ROOM,
    written: null,
    verify(answer, written) {
      if (written === 0) return "no byte of entropy";
      const [first] = answer;
      const same = answer.subarray(0, written).every((byte) => byte === first);
      return same && written >= 8 ? `${written} equal bytes` : null;
    },
  }),
});

/** A broadcast frame of an experimental type, behind a header that asks for nothing. */
const net = (): Exercise => {
  const frame = new Uint8Array(12 + 60);
  frame.fill(0xff, 12, 18);
  frame.set([0x02, 0, 0, 0, 0, 1, 0x88, 0xb5], 18);
  return {
    vrings: 2,
    queue: 1,
    features: 0n,
    configSize: 0,
    request: () => ({ out: frame, room: 0, written: 0 }),
  };
};

/** A status event that switches an LED that no device has. */
const input = (): Exercise => ({
  vrings: 2,
  queue: 1,
  features: 0n,
  configSize: 8,
  request: () => ({ out: Uint8Array.of(0x11, 0, 0x0f, 0, 0, 0, 0, 0), room: 0, written: 0 }),
});

const RESOURCE_UNREF = 0x0102;
const ERR_INVALID_RESOURCE_ID = 0x1203;

/** Gives up a resource that does not exist, which is answered by an error of 24 bytes. */
const gpu = (): Exercise => {
  const out = new Uint8Array(32);
  const view = new DataView(out.buffer);
  view.setUint32(0, RESOURCE_UNREF, true);
  view.setUint32(24, 0x7777, true);
  return {
    vrings: 2,
    queue: 0,
    features: 0n,
    configSize: 16,
    request: () => ({
      out,
      room: 24,
      written: 24,
      verify(answer) {
        const type = new DataView(answer.buffer, answer.byteOffset).getUint32(0, true);
        if (type === ERR_INVALID_RESOURCE_ID) return null;
        return `RESOURCE_UNREF of no resource is answered by 0x${type.toString(16)}`;
      },
    }),
  };
};

export const exercises: Readonly<Record<DeviceKind, () => Exercise>> = {
  blk,
  net,
  input,
  gpu,
  rng,
};
