/** Files of captured frames: pcapng as `--pcap` writes it, and pcap as DPDK reads and writes it. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";

export interface Packet {
  readonly data: Uint8Array;
  /** 1 for what the guest got, 2 for what it sent. */
  readonly direction: number;
  /** Nanoseconds since 1970. */
  readonly time: bigint;
}

/** The packets of a pcapng file; throws for one that is not as the format says. */
export function readCapture(path: string): Packet[] {
  const bytes = readFileSync(path);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const packets: Packet[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    assert.equal(view.getUint32(at + size - 4, true), size, "both lengths of a block");
    assert.equal(size % 4, 0);
    if (view.getUint32(at, true) === 6) {
      const length = view.getUint32(at + 20, true);
      const options = at + 28 + ((length + 3) & ~3);
      assert.deepEqual([view.getUint16(options, true), view.getUint16(options + 2, true)], [2, 4]);
      const time =
        (BigInt(view.getUint32(at + 12, true)) << 32n) | BigInt(view.getUint32(at + 16, true));
      const direction = view.getUint32(options + 4, true);
      packets.push({ data: bytes.subarray(at + 28, at + 28 + length), direction, time });
    }
    at += size;
  }
  return packets;
}

const PCAP_MAGIC = 0xa1b2c3d4;
const PCAP_HEADER = 24;
const RECORD_HEADER = 16;
const ETHERNET = 1;

/** Writes a pcap file of Ethernet frames. */
export function writePcap(path: string, frames: readonly Uint8Array[]): void {
  const header = new DataView(new ArrayBuffer(PCAP_HEADER));
  header.setUint32(0, PCAP_MAGIC, true);
  header.setUint16(4, 2, true);
  header.setUint16(6, 4, true);
  header.setUint32(16, 65_535, true);
  header.setUint32(20, ETHERNET, true);
  const records = frames.flatMap((frame) => {
    const record = new DataView(new ArrayBuffer(RECORD_HEADER));
    record.setUint32(8, frame.length, true);
    record.setUint32(12, frame.length, true);
    return [new Uint8Array(record.buffer), frame];
  });
  writeFileSync(path, Buffer.concat([new Uint8Array(header.buffer), ...records]));
}

/** The frames of a pcap file in this machine's byte order. */
export function readPcap(path: string): Uint8Array[] {
  const bytes = readFileSync(path);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const frames: Uint8Array[] = [];
  for (let at = PCAP_HEADER; at < bytes.length; ) {
    const length = view.getUint32(at + 8, true);
    frames.push(bytes.subarray(at + RECORD_HEADER, at + RECORD_HEADER + length));
    at += RECORD_HEADER + length;
  }
  return frames;
}
