/** What a front-end says of one ring, and the queue that follows from it once it is complete. */
import type { Device, QueueSpec } from "./device.ts";
import type { DirtyLog, RingLog } from "./dirty-log.ts";
import { ProtocolError } from "./errors.ts";
import { has, RingFeature, VhostFeature } from "./features.ts";
import { hex } from "./hex.ts";
import type { InflightRegion } from "./inflight.ts";
import type { Log } from "./log.ts";
import type { Loop } from "./loop.ts";
import type { GuestMemory } from "./memory.ts";
import { PackedQueue } from "./packed.ts";
import { checkPackedBase, FRESH } from "./packed-format.ts";
import { MAX_QUEUE_SIZE } from "./protocol.ts";
import type { InflightPart, Queue, QueueOptions } from "./queue.ts";
import { type RingPart, RingPlaces, ringParts } from "./ring-address.ts";
import { SplitQueue } from "./split.ts";
import { SplitBigEndianQueue } from "./split-big-endian.ts";
import type { Translation } from "./translation.ts";

/** Addresses of a ring's parts: user addresses, guest-physical ones or I/O addresses. */
export interface RingAddresses {
  readonly descriptor: number;
  readonly available: number;
  readonly used: number;
  /** Guest-physical address to mark what is written to the used part at, or null not to mark it. */
  readonly log?: number | null;
}

/** What a vring needs of its session. */
export interface VringContext {
  readonly loop: Loop;
  readonly log: Log;
  readonly device: Device;
  readonly memory: GuestMemory;
  readonly dirtyLog: DirtyLog;
  readonly inflight: InflightRegion | null;
  /** The feature bits the driver accepted. */
  readonly features: bigint;
  /** What I/O addresses mean, where ACCESS_PLATFORM is accepted. */
  readonly translation?: Translation;
  /** Ring addresses are guest-physical (GPA_ADDRESSES). */
  readonly guestAddresses?: boolean;
  /** Notifies the front-end by a message, where that was agreed on. */
  notify(name: "VRING_CALL" | "VRING_ERR", vring: number): void;
}

/** What a queue tells its vring. */
export type QueueEvents = Required<
  Pick<QueueOptions, "call" | "broken" | "requestPublish" | "requestDrain">
>;

export class RingSetup {
  readonly #index: number;
  readonly #spec: QueueSpec;
  readonly #context: VringContext;
  #size = 0;
  #base = 0;
  /** Whether the base is one of a packed ring. */
  #basePacked = false;
  /** The base is where the last queue has ended. */
  #continued = false;
  #addresses: RingAddresses | null = null;
  /** Where the ring lies, as the front-end says, and where that is. */
  #parts: readonly RingPart[] = [];
  #places: RingPlaces | null = null;
  /** What SET_VRING_ENDIAN said. Means nothing once VERSION_1 is negotiated. */
  bigEndian = false;

  constructor(index: number, spec: QueueSpec, context: VringContext) {
    this.#index = index;
    this.#spec = spec;
    this.#context = context;
  }

  /** Where the ring goes on, as in SET_VRING_BASE. */
  get base(): number {
    return this.#base;
  }

  get addresses(): RingAddresses | null {
    return this.#addresses;
  }

  /** Nothing is missing to make a queue of it. */
  get complete(): boolean {
    return this.#size > 0 && this.#addresses !== null;
  }

  setSize(size: number): void {
    checkSize(size, this.#spec.maxSize ?? MAX_QUEUE_SIZE, this.#packed);
    this.#size = size;
  }

  setBase(base: number): void {
    if (!this.#packed) checkSplitBase(base);
    else if (this.#size > 0) checkPackedBase(base, this.#size);
    // One that stopped where rings begin had done nothing, most likely.
    this.#continued &&= base === this.#base && this.#basePacked === this.#packed;
    this.#base = base;
    this.#basePacked = this.#packed;
  }

  setAddresses(addresses: RingAddresses): void {
    this.#addresses = addresses;
  }

  /** Throws `ProtocolError` for addresses that no ring can have. */
  checkAddresses({ descriptor, available, used }: RingAddresses): void {
    const alignment = this.#packed ? 4 : 2;
    if (descriptor % 16 !== 0 || available % alignment !== 0 || used % 4 !== 0) {
      throw new ProtocolError(
        `Cannot use ring addresses ${hex(descriptor)}, ${hex(available)}, ${hex(used)}: ` +
          `they must be aligned to 16, ${alignment} and 4 bytes`,
      );
    }
  }

  /** Tells whether these are the addresses in use, be they marked in the dirty log or not. */
  hasAddresses({ descriptor, available, used }: RingAddresses): boolean {
    const own = this.#addresses;
    return own?.descriptor === descriptor && own.available === available && own.used === used;
  }

  /** Tells whether part of the ring has addresses from `start` up to `end`. */
  overlaps(start: number, end: number): boolean {
    return this.#parts.some(({ address, length }) => address < end && start < address + length);
  }

  /**
   * What to make the queue with. Throws `ProtocolError` when the ring cannot be where it is said to be,
   * `TranslationMiss` when that is not known yet.
   */
  prepare(events: QueueEvents): QueueOptions {
    const size = this.#size;
    const packed = this.#packed;
    // The size and the base may have been set under other features.
    checkSize(size, MAX_QUEUE_SIZE, packed);
    if (this.#basePacked !== packed) {
      this.#base = 0;
      this.#continued = false;
    }
    if (packed) checkPackedBase(this.#base, size);
    const { features, memory, guestAddresses = false } = this.#context;
    const translation = this.#translation;
    this.#parts = ringParts(packed, size, this.#addresses!);
    this.#places?.[Symbol.dispose]();
    const where = { memory, guestAddresses, translation };
    const places = new RingPlaces(`Cannot start vring ${this.#index}`, this.#parts, where);
    this.#places = places;
    return {
      index: this.#index,
      name: this.#spec.name,
      size,
      memory: translation?.iotlb ?? memory,
      descriptor: places.hosts[0]!,
      available: places.hosts[1]!,
      used: places.hosts[2]!,
      base: this.#base,
      fresh: !this.#continued && (this.#base === 0 || (packed && this.#base === FRESH)),
      inflight: this.#inflightPart(),
      log: this.#ringLog(places),
      pages: memory.source,
      indirect: has(features, RingFeature.INDIRECT_DESC),
      eventIdx: has(features, RingFeature.EVENT_IDX),
      inOrder: has(features, RingFeature.IN_ORDER),
      notifyOnEmpty: has(features, RingFeature.NOTIFY_ON_EMPTY),
      ...events,
    };
  }

  /** Makes the queue. Chosen once, here: no access to a ring asks what kind it is. */
  make(options: QueueOptions): Queue {
    if (this.#packed) return new PackedQueue(options);
    const legacy = !has(this.#context.features, RingFeature.VERSION_1);
    return legacy && this.bigEndian ? new SplitBigEndianQueue(options) : new SplitQueue(options);
  }

  /** The queue has ended: a later one goes on where it stopped. */
  ended(queue: Queue): void {
    this.#base = queue.base;
    this.#basePacked = queue instanceof PackedQueue;
    this.#continued = true;
    this.#places?.[Symbol.dispose]();
    this.#places = null;
  }

  /** Whether the ring is packed if it starts now: firmware may use split rings, its system packed ones. */
  get #packed(): boolean {
    return has(this.#context.features, RingFeature.RING_PACKED);
  }

  #inflightPart(): InflightPart | null {
    const { inflight } = this.#context;
    if (inflight === null) return null;
    const bytes = inflight.part(this.#index, this.#size, this.#packed);
    return { bytes, queueSize: inflight.shape.queueSize };
  }

  #ringLog(places: RingPlaces): RingLog | null {
    const { features, dirtyLog } = this.#context;
    if (!has(features, VhostFeature.LOG_ALL)) return null;
    return places.ringLog(dirtyLog, this.#addresses!.log ?? null);
  }

  /** What the driver's addresses go through, or null. */
  get #translation(): Translation | null {
    const { features, translation } = this.#context;
    return has(features, RingFeature.ACCESS_PLATFORM) ? (translation ?? null) : null;
  }
}

function checkSize(size: number, limit: number, packed: boolean): void {
  if (size === 0 || size > limit || (!packed && (size & (size - 1)) !== 0)) {
    const range = packed ? `from 1 to ${limit}` : `a power of 2 up to ${limit}`;
    throw new ProtocolError(`Cannot use a ring of ${size} descriptors: it must be ${range}`);
  }
}

function checkSplitBase(base: number): void {
  if (base > 0xffff) throw new ProtocolError(`Cannot start a split ring at index ${base}`);
}
