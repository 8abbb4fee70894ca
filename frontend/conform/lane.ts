/** Requests on one vring of a device, each checked when it is completed. */
import { DeviceStatus, ProtocolFeature } from "../../core/protocol.ts";
import type { Connection } from "../connection.ts";
import { BackEndError } from "../errors.ts";
import type { Frontend } from "../frontend.ts";
import type { GuestMemory } from "../guest-memory.ts";
import { Position } from "../packed-position.ts";
import type { Vring, VringOptions } from "../vring.ts";
import { fail } from "./check.ts";
import type { Exercise, Request } from "./exercises.ts";

export interface LaneOptions {
  /** Descriptors per ring; 64 by default. */
  readonly ringSize?: number;
  /** The base the rings begin with; that of an unused ring by default. */
  readonly base?: number;
  /** Further settings of the vring that is used. */
  readonly vring?: Partial<VringOptions>;
}

/** How a request's buffers are cut and put into the ring. */
export interface Cut {
  /** Buffers that the readable and the writable part are each cut into; 1 by default. */
  readonly pieces?: number;
  /** In an indirect table. */
  readonly indirect?: boolean;
  /** Where the device writes, instead of the slot's own memory. */
  readonly answerAt?: number;
  /** Where the device reads. */
  readonly requestAt?: number;
}

interface Slot {
  readonly index: number;
  readonly table: number;
  readonly request: number;
  readonly answer: number;
  answerAt: number;
  content: Request;
}

/** What memory holds before the device writes to it. */
export const POISON = 0xa5;

const SLOT_BYTES = 8192;
const TABLE_BYTES = 2048;
const REQUEST_BYTES = 2048;
const none: Request = { out: new Uint8Array(0), room: 0, written: 0 };

export class Lane {
  /** Another one after a reconnection. */
  frontend: Frontend;
  readonly exercise: Exercise;
  readonly timeout: number;
  /** The vring that takes requests. */
  readonly vring: Vring;
  /** All vrings that the device wants to have set up. */
  readonly vrings: readonly Vring[];
  /** Requests completed, and the bytes the device said it wrote for the last one. */
  done = 0;
  written = 0;
  readonly #memory: GuestMemory;
  readonly #slots: Slot[];
  readonly #free: number[];
  #serial = 0;
  #answerAt = 0;

  /** Makes the vrings of a front-end that has sent features and memory. */
  constructor(
    frontend: Frontend,
    exercise: Exercise,
    timeout: number,
    { ringSize = 64, base, vring: extra = {} }: LaneOptions = {},
  ) {
    this.frontend = frontend;
    this.exercise = exercise;
    this.timeout = timeout;
    this.#memory = frontend.memory;
    this.vrings = Array.from({ length: exercise.vrings }, (_, index) =>
      frontend.addVring(index, {
        size: ringSize,
        ...(base === undefined ? {} : { base }),
        ...(index === exercise.queue ? extra : {}),
      }),
    );
    this.vring = this.vrings[exercise.queue]!;
    this.#slots = Array.from({ length: Math.min(ringSize, 256) }, (_, index) => {
      const at = this.#memory.allocate(SLOT_BYTES, 4096);
      const answer = at + TABLE_BYTES + REQUEST_BYTES;
      const parts = { table: at, request: at + TABLE_BYTES, answer, answerAt: answer };
      return { index, ...parts, content: none };
    });
    this.#free = this.#slots.map(({ index }) => index).reverse();
  }

  get connection(): Connection {
    return this.frontend.connection;
  }

  get inFlight(): number {
    return this.vring.ring.inFlight;
  }

  /** Sets up, starts and enables the vrings, in the front-end's order, and prepares the device. */
  start(): void {
    const bases = this.vrings.map(({ ring }) => ring.base);
    this.frontend.startVrings(this.vrings, bases);
    this.driverReady();
    this.#kickOff(this.vrings);
    this.prepare();
  }

  /** Tells the device by its status that the driver is there; some wait for that. */
  driverReady(): void {
    if (!this.frontend.hasProtocol(ProtocolFeature.STATUS)) return;
    const { ACKNOWLEDGE, DRIVER, DRIVER_OK } = DeviceStatus;
    this.frontend.addStatus(ACKNOWLEDGE | DRIVER | DRIVER_OK);
  }

  /**
   * Kicks rings that go on where others stopped, as front-ends do: the index for which a kick is
   * wanted is then an old one.
   */
  #kickOff(vrings: readonly Vring[]): void {
    for (const { ring, kick } of vrings) {
      if (ring.availableIndex !== (ring.packed ? Position.WRAP : 0)) kick.signal();
    }
  }

  /** Gives the device the content that requests rely on. */
  prepare(): void {
    this.exercise.prepare?.(this);
  }

  /** Puts one request into the ring; `publish` shows it. False when there is no room. */
  submit(cut: Cut = {}): boolean {
    return this.#submit(this.exercise.request(this.#serial++), cut);
  }

  publish(): void {
    this.vring.publish();
  }

  /** Shows what was put into the ring, and kicks whatever the device wishes. */
  forceKick(): void {
    this.vring.ring.publish();
    this.vring.kick.signal();
  }

  #submit(content: Request, { pieces = 1, indirect = false, answerAt, requestAt }: Cut): boolean {
    const index = this.#free.pop();
    if (index === undefined) return false;
    const slot = this.#slots[index]!;
    slot.content = content;
    slot.answerAt = answerAt ?? slot.answer;
    const request = requestAt ?? slot.request;
    this.#memory.write(request, content.out);
    this.#memory.write(slot.answerAt, new Uint8Array(content.room).fill(POISON));
    const { ring } = this.vring;
    ring.clear();
    push(ring, request, content.out.length, pieces, false);
    push(ring, slot.answerAt, content.room, pieces, true);
    const head = indirect ? ring.addIndirect(slot.table, index) : ring.add(index);
    if (head < 0) this.#free.push(index);
    return head >= 0;
  }

  /** Takes one completion and checks it. False when there is none. */
  take(): boolean {
    const { ring } = this.vring;
    if (!ring.next()) return false;
    const slot = this.#slots[ring.token]!;
    const { content } = slot;
    this.written = ring.written;
    this.done++;
    const { written } = content;
    if (written !== null && ring.written !== written) {
      fail(`a used length of ${written}`, `${ring.written}`);
    }
    this.#answerAt = slot.answerAt;
    const answer = this.#memory.read(slot.answerAt, content.room);
    const wrong = content.verify?.(answer, ring.written) ?? null;
    if (wrong !== null) fail("the request to be carried out", wrong);
    this.#free.push(slot.index);
    return true;
  }

  /** Waits for everything in flight and checks it, every call included. */
  finish(): void {
    while (this.inFlight > 0) {
      this.#wait();
      while (this.take());
    }
  }

  #wait(): void {
    if (this.vring.wait(this.timeout)) return;
    const count = this.inFlight;
    throw new BackEndError("silent", `${count} requests are not completed in ${this.timeout} ms`);
  }

  /** Carries out `count` requests, up to `depth` at a time. */
  run(count: number, { depth = 1, ...cut }: Cut & { readonly depth?: number } = {}): void {
    for (let submitted = 0; submitted < count || this.inFlight > 0; ) {
      while (submitted < count && this.inFlight < depth && this.submit(cut)) submitted++;
      this.publish();
      if (this.inFlight > 0) this.#wait();
      while (this.take());
    }
  }

  /** Carries out one request with this content. Returns what the device wrote. */
  exchange(out: Uint8Array, room: number, cut: Cut = {}): Uint8Array {
    let result = new Uint8Array(0);
    const verify = (answer: Uint8Array, written: number): null => {
      result = answer.slice(0, Math.max(written, 0));
      return null;
    };
    this.#submit({ out, room, written: null, verify }, cut);
    this.publish();
    this.finish();
    return result;
  }

  /** The first `room` bytes of the last completed request's answer, counted as written or not. */
  answer(room: number): Uint8Array {
    return this.#memory.read(this.#answerAt, room);
  }

  /** Stops the vring that takes requests. Returns the index to go on from. */
  stop(): number {
    return this.frontend.stopVring(this.vring);
  }

  /** Starts it again. */
  resume(base: number): void {
    this.frontend.startVrings([this.vring], [base]);
    this.#kickOff([this.vring]);
  }
}

function push(
  ring: Vring["ring"],
  address: number,
  length: number,
  pieces: number,
  writable: boolean,
): void {
  if (length === 0) return;
  const count = Math.min(pieces, length);
  for (let i = 0; i < count; i++) {
    const [start, end] = [Math.floor((length * i) / count), Math.floor((length * (i + 1)) / count)];
    ring.push(address + start, end - start, writable);
  }
}
