/** Block requests as a driver builds them, handled by a `RequestHandler` on a real ring. */
import { Log, type LogRecord } from "../../core/log.ts";
import type { Queue } from "../../core/queue.ts";
import { RequestHandler, type RequestLimits } from "../../devices/blk/request.ts";
import type { Store } from "../../devices/blk/store.ts";
import { type Buffer, DriverRing } from "../core/driver.ts";
import { TestGuest } from "../core/guest.ts";

export const limits: RequestLimits = {
  logicalBlockSize: 512,
  maxDiscardSegments: 4,
  maxWriteZeroesSegments: 2,
  maxDiscardSectors: 8,
  maxWriteZeroesSectors: 4,
};

export interface Request {
  readonly type: number;
  readonly sector?: number | bigint;
  /** What follows the header in the readable buffers. */
  readonly data?: Uint8Array;
  /** Bytes of the writable buffers before the status. */
  readonly room?: number;
  /** Lengths of the readable and of the writable buffers; one of each when absent. */
  readonly readable?: readonly number[];
  readonly writable?: readonly number[];
}

export interface Answer {
  /** The length in the used element. */
  readonly written: number;
  readonly status: number;
  readonly data: Uint8Array;
}

/** What the status byte is before the device writes it. */
const NO_STATUS = 0xee;

export const makeGuest = (): TestGuest =>
  new TestGuest([
    { guestAddress: 0, size: 0x40000, at: 0x40000 },
    { guestAddress: 0x40000, size: 0x40000, at: 0 },
  ]);

export class BlkRequests implements Disposable {
  readonly guest: TestGuest;
  readonly records: LogRecord[] = [];
  readonly ring: DriverRing;
  readonly queue: Queue;
  readonly handler: RequestHandler;
  /** Where the next buffer goes: around the border of the two regions. */
  #next = 0x40000 - 0x8000;

  /** Takes `guest`. */
  constructor(store: Store, over: Partial<RequestLimits> = {}, guest = makeGuest()) {
    this.guest = guest;
    this.ring = new DriverRing(this.guest, { size: 64, at: 0x1000 });
    this.queue = this.ring.queue();
    this.handler = new RequestHandler({
      store,
      log: new Log((record) => this.records.push(record)),
      serial: Uint8Array.from({ length: 20 }, (_, i) => 65 + i),
      limits: { ...limits, ...over },
    });
  }

  /** Handles a request at once. Throws when the handler holds it. */
  send(request: Request): Answer {
    const pending = this.begin(request);
    if (pending.outcome < 0) throw new Error("the request is held");
    this.queue.complete(pending.head, pending.outcome);
    return pending.answer();
  }

  /** Hands a request to the handler. `answer` reads what came of it once it is completed. */
  begin(request: Request) {
    const readable = encodeRequest(request);
    const writable = (request.room ?? 0) + 1;
    const inward = this.#allocate(request.readable ?? [readable.length], false);
    const outward = this.#allocate(request.writable ?? [writable], true);
    this.#write(inward, readable);
    for (const { address, length } of outward) this.guest.fill(address, length, NO_STATUS);
    const head = this.ring.offer([...inward, ...outward], 0, this.#take(16 * 64));
    if (!this.queue.next()) throw new Error("the queue has no chain");
    const outcome = this.handler.handle(this.queue.chain, this.queue);
    const answer = (): Answer => {
      this.queue.publish();
      const [used] = this.ring.reap().filter(({ id }) => id === head);
      const bytes = Buffer.concat(
        outward.map(({ address, length }) => this.guest.read(address, length)),
      );
      return {
        written: used!.length,
        status: bytes.at(-1) ?? -1,
        data: new Uint8Array(bytes.subarray(0, -1)),
      };
    };
    return { head, outcome, answer };
  }

  [Symbol.dispose](): void {
    this.guest[Symbol.dispose]();
  }

  #take(length: number): number {
    const at = this.#next;
    this.#next += length;
    if (this.#next > 0x80000) throw new Error("the test's guest has no memory left");
    return at;
  }

  #allocate(lengths: readonly number[], writable: boolean): Buffer[] {
    return lengths.map((length) => ({ address: this.#take(length), length, writable }));
  }

  #write(buffers: readonly Buffer[], bytes: Uint8Array): void {
    let at = 0;
    for (const { address, length } of buffers) {
      this.guest.write(address, bytes.subarray(at, at + length));
      at += length;
    }
  }
}

export function encodeRequest({ type, sector = 0, data = new Uint8Array(0) }: Request): Uint8Array {
  const bytes = new Uint8Array(16 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  bytes.set(data, 16);
  return bytes;
}

export interface SegmentPlan {
  readonly sector: number | bigint;
  readonly sectors: number;
  readonly flags?: number;
}

/** The data of DISCARD and WRITE_ZEROES. */
export function segments(...list: readonly SegmentPlan[]): Uint8Array {
  const bytes = new Uint8Array(16 * list.length);
  const view = new DataView(bytes.buffer);
  list.forEach(({ sector, sectors, flags = 0 }, i) => {
    view.setBigUint64(16 * i, BigInt(sector), true);
    view.setUint32(16 * i + 8, sectors, true);
    view.setUint32(16 * i + 12, flags, true);
  });
  return bytes;
}

export const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => seed * 29 + i * 3);
