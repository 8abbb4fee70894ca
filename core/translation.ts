/**
 * Asking the front-end what I/O addresses mean, and waiting for it
 * (vhost-user: IOMMU support, BACKEND_IOTLB_MSG).
 *
 * Nothing but the queue that lacks a translation waits. Chains in flight never need one again, so
 * whatever a front-end waits for meanwhile, an invalidation's reply above all, can be done.
 */
import { Access } from "./address-space.ts";
import { hex } from "./hex.ts";
import { type AccessFailure, Iotlb, type TranslationMiss } from "./iotlb.ts";
import type { Log } from "./log.ts";
import type { Loop } from "./loop.ts";
import type { GuestMemory } from "./memory.ts";
import { Iotlb as IotlbPayload } from "./payloads.ts";
import { IotlbMessage } from "./protocol.ts";
import type { RequestChannel, Settle } from "./request-channel.ts";

/** How long a queue waits for a translation, in milliseconds. */
export const MISS_LIMIT = 10_000;

/** Pages of one buffer that are asked for together. */
const AHEAD = 32;
/** Questions at a time. The request channel takes 64 requests, of all kinds. */
const MAX_ASKED = 48;

export interface TranslationOptions {
  readonly loop: Loop;
  readonly log: Log;
  /** Where to ask, or null as long as there is no channel. */
  readonly channel: () => RequestChannel | null;
  /** How long a queue waits for a translation, in milliseconds; 10 s by default. */
  readonly missLimit?: number;
}

const PAGE = 4096;
const pageOf = (address: number): number => address - (address % PAGE);

interface Question {
  readonly address: number;
  readonly access: number;
  /** When it may be asked again, in the time of `performance.now`. */
  readonly until: number;
}

/** What the front-end says and is asked about I/O addresses, for all queues of a session. */
export class Translation {
  readonly iotlb: Iotlb;
  readonly #options: TranslationOptions;
  readonly #limit: number;
  /** Questions without an answer, by page. */
  readonly #asked = new Map<number, Question>();
  readonly #waits = new Set<TranslationWait>();
  /** Questions whose acknowledgement has not come; their updates may have. */
  #open = 0;
  /** There were more questions than may be asked at a time. */
  #postponed = false;

  constructor(memory: GuestMemory, options: TranslationOptions) {
    this.iotlb = new Iotlb(memory);
    this.#options = options;
    this.#limit = options.missLimit ?? MISS_LIMIT;
  }

  /** A queue's way to wait. One of the two functions is called when it is over. */
  wait(go: () => void, fail: (reason: string) => void): TranslationWait {
    return new TranslationWait(this, this.#options.loop, this.#limit, go, fail);
  }

  /** Enters what the front-end says, in bytes. */
  update(start: number, size: number, target: number, access: number): void {
    this.iotlb.set(start, size, target, access);
    for (const page of this.#asked.keys()) {
      if (page < start + size && start < page + PAGE) this.#asked.delete(page);
    }
    this.look();
  }

  /** Has all queues that wait look again: there are new entries, or there is new memory. */
  look(): void {
    for (const wait of [...this.#waits]) wait.look();
  }

  /** Says that entries lead to guest-physical addresses, or to user addresses. */
  useGuestAddresses(use: boolean): void {
    if (this.iotlb.guestAddresses === use) return;
    this.iotlb.guestAddresses = use;
    this.clear();
  }

  /** Forgets all entries: they were those of an earlier driver. */
  clear(): void {
    this.iotlb.clear();
    this.#asked.clear();
  }

  /** Asks again for what is still missing, on a channel that is new. */
  askAgain(): void {
    for (const question of [...this.#asked.values()]) this.#send(question);
  }

  /** Asks for what a buffer lacks. */
  ask({ address, length, access }: TranslationMiss): void {
    const now = performance.now();
    if (this.#asked.size >= MAX_ASKED) this.#dropOld(now);
    this.iotlb.missing(address, length, AHEAD, (at) => {
      const old = this.#asked.get(pageOf(at));
      if (old !== undefined && (old.access & access) === access && now < old.until) return;
      // What is waited for goes before what is only wanted soon.
      if (this.#open >= MAX_ASKED || (at !== address && this.#asked.size >= MAX_ASKED)) {
        this.#postponed = true;
        return;
      }
      const wanted = access | (old?.access ?? 0);
      const question = { address: at, access: wanted, until: now + this.#limit };
      this.#asked.set(pageOf(at), question);
      this.#send(question);
    });
  }

  /** Tells the front-end of a chain that wants more of its memory than it may. */
  report({ address, access }: AccessFailure): void {
    this.#options.channel()?.send("IOTLB_MSG", message(IotlbMessage.ACCESS_FAIL, address, access));
  }

  enter(wait: TranslationWait): void {
    this.#waits.add(wait);
  }

  leave(wait: TranslationWait): void {
    this.#waits.delete(wait);
  }

  #dropOld(now: number): void {
    for (const [page, { until }] of this.#asked) {
      if (now >= until) this.#asked.delete(page);
    }
  }

  #send(question: Question): void {
    const channel = this.#options.channel();
    if (channel === null) return;
    const { address, access } = question;
    const settled = (refused: boolean): void => {
      this.#open--;
      if (refused) this.#refuse(question);
      if (!this.#postponed) return;
      this.#postponed = false;
      this.look();
    };
    // Without an acknowledgement an update may still come, and there is a limit to the wait.
    const settle: Settle = {
      resolve: ({ value, fd }) => {
        fd?.close();
        settled(value !== 0n);
      },
      reject: () => settled(false),
    };
    this.#open++;
    try {
      channel.query("IOTLB_MSG", settle, message(IotlbMessage.MISS, address, access));
    } catch {
      this.#open--;
    }
  }

  #refuse(question: Question): void {
    const page = pageOf(question.address);
    if (this.#asked.get(page) !== question) return;
    this.#asked.delete(page);
    for (const wait of [...this.#waits]) wait.refuse(page);
  }
}

function message(type: number, iova: number, permission: number): Uint8Array {
  return IotlbPayload.encode({ iova: BigInt(iova), permission, type });
}

/** One queue's wait for a translation. */
export class TranslationWait {
  readonly #translation: Translation;
  readonly #loop: Loop;
  readonly #limit: number;
  readonly #go: () => void;
  readonly #fail: (reason: string) => void;
  #miss: TranslationMiss | null = null;
  #timer: Disposable | null = null;

  constructor(
    translation: Translation,
    loop: Loop,
    limit: number,
    go: () => void,
    fail: (reason: string) => void,
  ) {
    this.#translation = translation;
    this.#loop = loop;
    this.#limit = limit;
    this.#go = go;
    this.#fail = fail;
  }

  /** Begins to wait for what a chain lacks, or the ring itself. */
  begin(miss: TranslationMiss): void {
    this.#miss = miss;
    this.#timer ??= this.#loop.after(this.#limit, () => this.#giveUp(`within ${this.#limit} ms`));
    this.#translation.enter(this);
    this.#translation.ask(miss);
  }

  /** Goes on if what was missing is known now. */
  look(): void {
    const miss = this.#miss;
    if (miss === null) return;
    // What came may have been taken away again.
    if (this.#translation.iotlb.lacks(miss.address, miss.access)) this.#translation.ask(miss);
    else {
      this.end();
      this.#go();
    }
  }

  /** The front-end has nothing for this page. */
  refuse(page: number): void {
    const miss = this.#miss;
    if (miss !== null && pageOf(miss.address) === page) this.#giveUp("from the front-end");
  }

  end(): void {
    if (this.#miss === null) return;
    this.#miss = null;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#translation.leave(this);
  }

  #giveUp(why: string): void {
    const { address, access } = this.#miss!;
    this.end();
    const kind = access === Access.READ ? "reading" : "writing";
    this.#fail(`I/O address ${hex(address)} got no translation for ${kind} ${why}`);
  }
}
