/** A front-end that behaves: it sets a device up and checks that requests are served correctly. */
import { has, mask, RingFeature, VhostFeature } from "../../core/features.ts";
import { VringAddr, VringState } from "../../core/payloads.ts";
import { type FrontEndMessage, ProtocolFeature, VRING_LOG } from "../../core/protocol.ts";
import { RequestHeader, RequestType, Status } from "../../devices/blk/wire.ts";
import type { Fd } from "../../ffi/mod.ts";
import { Client, u64 } from "../bad-input/client.ts";
import { defaultTable, memTable, ringAddresses, state } from "../bad-input/guest.ts";
import { PackedRing } from "../bad-input/packed-ring.ts";
import { type Descriptor, Ring, USED, WRITE } from "../bad-input/ring.ts";
import type { Arena } from "./arena.ts";
import { ECHO } from "./parts-device.ts";
import type { DeviceName } from "./target.ts";

/** What a session asks for, as far as it is offered. */
const wantedFeatures = mask(
  RingFeature.VERSION_1,
  RingFeature.INDIRECT_DESC,
  RingFeature.EVENT_IDX,
  VhostFeature.PROTOCOL_FEATURES,
);
const wantedProtocol = mask(
  ProtocolFeature.MQ,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.LOG_SHMFD,
  ProtocolFeature.INFLIGHT_SHMFD,
  ProtocolFeature.CONFIG,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.STATUS,
);

const DATA_BYTES = 4096;
/** Sectors of the disk that a ring's checks overwrite. */
const SECTORS = DATA_BYTES / 512;

export interface SessionOptions {
  readonly rings?: number;
  readonly size?: number;
  /** Virtio features to ask for. */
  readonly features?: bigint;
  /** Does what has to be done before the rings start. */
  readonly prepare?: (session: Session) => void;
}

export class Session implements Disposable {
  readonly client: Client;
  readonly arena: Arena;
  readonly rings: readonly Ring[];
  /** Virtio features that are negotiated. */
  readonly features: bigint;
  /** Protocol features that are negotiated. */
  readonly protocol: bigint;

  constructor(socket: string, arena: Arena, options: SessionOptions = {}) {
    const { rings = 1, size = 64, features = wantedFeatures, prepare } = options;
    this.arena = arena;
    this.client = new Client(socket);
    this.features = this.client.askU64("GET_FEATURES") & features;
    this.protocol = this.client.askU64("GET_PROTOCOL_FEATURES") & wantedProtocol;
    this.client.send("SET_PROTOCOL_FEATURES", u64(this.protocol));
    this.must("SET_OWNER");
    this.must("SET_FEATURES", u64(this.features));
    this.must("SET_MEM_TABLE", memTable(defaultTable), [arena.memfd, arena.memfd]);
    const packed = has(this.features, RingFeature.RING_PACKED);
    const Kind = packed ? PackedRing : Ring;
    this.rings = Array.from({ length: rings }, (_, i) => new Kind(i, size, arena.view));
    prepare?.(this);
    for (const ring of this.rings) this.start(ring);
  }

  /** Sends a message that has to succeed. */
  must(message: FrontEndMessage, payload?: Uint8Array, fds?: readonly Fd[]): void {
    const outcome = this.client.ack(message, payload, fds);
    if (outcome !== "ok") throw new Error(`A correct ${message} was answered "${outcome}"`);
  }

  /** Sets an empty ring up and starts it; at `base`, if what lies in the ring says so too. */
  start(ring: Ring, base: number = ring.emptyBase, prepare: () => void = () => {}): void {
    const { index } = ring;
    ring.clear();
    prepare();
    this.must("SET_VRING_NUM", state(index, ring.size));
    this.must("SET_VRING_BASE", state(index, base));
    this.must("SET_VRING_ADDR", this.#addresses(ring));
    this.must("SET_VRING_CALL", u64(index), [ring.callFd]);
    this.must("SET_VRING_ERR", u64(index), [ring.errFd]);
    this.must("SET_VRING_KICK", u64(index), [ring.kickFd]);
    this.must("SET_VRING_ENABLE", state(index, 1));
  }

  #addresses(ring: Ring): Uint8Array {
    const payload = ringAddresses(ring);
    if (!has(this.features, VhostFeature.LOG_ALL)) return payload;
    const view = new DataView(payload.buffer, payload.byteOffset);
    view.setUint32(VringAddr.offset.flags, VRING_LOG, true);
    view.setBigUint64(VringAddr.offset.log, BigInt(ring.base + USED), true);
    return payload;
  }

  /** Stops a ring, whatever state it is in. Returns the index to go on from. */
  stop(ring: Ring): number {
    const reply = this.client.ask("GET_VRING_BASE", state(ring.index, 0));
    ring.broken(0);
    return VringState.decode(reply).num;
  }

  /** Runs requests whose results are known. Throws when one is wrong or missing. */
  verify(device: DeviceName, ring: Ring, seed: number): void {
    if (device === "blk") this.#verifyDisk(ring, seed);
    else if (device === "rng") this.#verifyEntropy(ring);
    else this.#verifyEcho(ring, seed);
  }

  #run(ring: Ring, buffers: readonly Descriptor[]): number {
    ring.offer(ring.chain(0, buffers));
    ring.kick();
    if (!ring.complete()) throw new Error(`Queue ${ring.index} does not complete a request`);
    const { id, length } = ring.used(ring.seen - 1);
    if (id !== 0) throw new Error(`Queue ${ring.index} completes chain ${id} instead of 0`);
    return length;
  }

  #verifyDisk(ring: Ring, seed: number): void {
    const { u8, view } = this.arena;
    const at = ring.data;
    const data = u8.subarray(at + 4096, at + 4096 + DATA_BYTES);
    const run = (type: number, buffer: Descriptor[]) => {
      view.setUint32(at + RequestHeader.type, type, true);
      view.setUint32(at + 4, 0, true);
      view.setUint32(at + RequestHeader.sector, ring.index * SECTORS, true);
      view.setUint32(at + RequestHeader.sector + 4, 0, true);
      u8[at + 16] = 0xff;
      const status = { address: at + 16, length: 1, flags: WRITE };
      this.#run(ring, [{ address: at, length: 16 }, ...buffer, status]);
      if (u8[at + 16] !== Status.OK) throw new Error(`Request ${type} got status ${u8[at + 16]}`);
    };
    const buffer = { address: at + 4096, length: DATA_BYTES };
    fillPattern(data, seed);
    run(RequestType.OUT, [buffer]);
    run(RequestType.FLUSH, []);
    data.fill(0);
    run(RequestType.IN, [{ ...buffer, flags: WRITE }]);
    expectPattern(data, seed, 0, `the disk's queue ${ring.index}`);
  }

  #verifyEntropy(ring: Ring): void {
    const { u8 } = this.arena;
    const data = u8.subarray(ring.data, ring.data + 64).fill(0);
    const length = this.#run(ring, [{ address: ring.data, length: 64, flags: WRITE }]);
    if (length !== 64 || data.every((byte) => byte === 0)) {
      throw new Error(`The entropy source returned ${length} bytes`);
    }
  }

  #verifyEcho(ring: Ring, seed: number): void {
    const { u8 } = this.arena;
    const at = ring.data;
    fillPattern(u8.subarray(at, at + 512), seed);
    const answer = u8.subarray(at + 4096, at + 4096 + 512).fill(0);
    const buffers = [
      { address: at, length: 512 },
      { address: at + 4096, length: 512, flags: WRITE },
    ];
    const length = this.#run(ring, buffers);
    if (length !== 512) throw new Error(`Queue ${ring.index} returned ${length} bytes, not 512`);
    expectPattern(answer, seed, ECHO, `the answer of queue ${ring.index}`);
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
    for (const ring of this.rings) ring[Symbol.dispose]();
  }
}

const patternByte = (seed: number, i: number) => (Math.imul(i + seed, 0x9e3779b1) >>> 24) & 0xff;

function fillPattern(data: Uint8Array, seed: number): void {
  for (let i = 0; i < data.length; i++) data[i] = patternByte(seed, i);
}

function expectPattern(data: Uint8Array, seed: number, xor: number, what: string): void {
  const at = data.findIndex((byte, i) => byte !== (patternByte(seed, i) ^ xor));
  if (at >= 0) throw new Error(`Byte ${at} of ${what} is ${data[at]}`);
}
