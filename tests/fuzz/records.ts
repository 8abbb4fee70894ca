/** In-flight regions and dirty logs for the rings of a burst, and what may be wrong with them. */
import { has, RingFeature, VhostFeature } from "../../core/features.ts";
import { INFLIGHT_VERSION, inflightQueueBytes } from "../../core/inflight.ts";
import { Inflight, LogArea } from "../../core/payloads.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import type { Random } from "../bad-input/random.ts";
import { LOG } from "./arena.ts";
import type { Session } from "./session.ts";

export class Records {
  readonly #session: Session;
  readonly #random: Random;
  readonly #queueSize: number;
  /** Bytes of the in-flight region for each ring; 0 without one. */
  readonly #bytes: number;

  /** Hands over to the back-end what is negotiated, or some of it. */
  constructor(session: Session, random: Random, queues: number, queueSize: number) {
    this.#session = session;
    this.#random = random;
    this.#queueSize = queueSize;
    const { arena, features, protocol } = session;
    if (has(features, VhostFeature.LOG_ALL) && has(protocol, ProtocolFeature.LOG_SHMFD)) {
      const area = LogArea.encode({ size: BigInt(LOG.size), offset: BigInt(LOG.offset) });
      session.client.ask("SET_LOG_BASE", area, { fds: [arena.records] });
    }
    const tracks = has(protocol, ProtocolFeature.INFLIGHT_SHMFD) && random.chance(0.4);
    this.#bytes = tracks
      ? inflightQueueBytes(queueSize, has(features, RingFeature.RING_PACKED))
      : 0;
    if (!tracks) return;
    arena.inflight.fill(0);
    const size = BigInt(queues * this.#bytes);
    session.must("SET_INFLIGHT_FD", Inflight.encode({ size, queues, queueSize }), [arena.records]);
  }

  get tracks(): boolean {
    return this.#bytes > 0;
  }

  /** Nothing was in flight: a ring that starts now has nothing to submit again. */
  forget(ring: number): void {
    this.#part(ring).fill(0);
  }

  /** Says that anything was in flight. */
  forge(ring: number): void {
    const random = this.#random;
    const part = this.#part(ring);
    const view = new DataView(part.buffer, part.byteOffset, part.length);
    if (random.chance(0.5)) random.fill(part);
    else {
      for (let i = 0; i < 64; i++) view.setUint8(random.below(part.length), random.below(4));
    }
    if (random.chance(0.1)) return;
    view.setUint16(8, INFLIGHT_VERSION, true);
    view.setUint16(10, this.#queueSize, true);
  }

  #part(ring: number): Uint8Array<ArrayBuffer> {
    return this.#session.arena.inflight.subarray(ring * this.#bytes, (ring + 1) * this.#bytes);
  }
}
