/** Bursts of messages, each about a row of the protocol. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { handlers } from "../../core/handlers/mod.ts";
import type { MessageRow } from "../../core/protocol.ts";
import type { Random } from "../bad-input/random.ts";
import { type Bench, Campaign } from "./campaign.ts";
import { runMessages } from "./message-burst.ts";
import { rows } from "./message-maker.ts";
import { Tally } from "./tally.ts";
import type { TargetName } from "./target.ts";
import { saveTrace, Trace } from "./trace.ts";

const MESSAGES_PER_BURST = 500;
const TRACE_TAIL = 12;

export class MessageCampaign extends Campaign {
  readonly tally = new Tally();
  protected override readonly kind = "messages";
  /** Their number has no divisor in common with that of the rows. */
  protected override readonly turns: readonly TargetName[] = [
    "parts",
    "parts",
    "blk",
    "parts",
    "rng",
    "parts",
    "blk",
  ];
  #trace = new Trace();
  #before = 0;

  override get amount(): number {
    return this.tally.sent;
  }

  /** Tells whether some back-end here implements a row: it has a handler, and what it needs is offered. */
  implements({ code, needs }: MessageRow): boolean {
    if (handlers[code] === undefined) return false;
    const offers = [...this.benches.values()].map(({ oracle }) => oracle.offered);
    return needs === undefined || offers.some((bits) => ((bits >> BigInt(needs)) & 1n) === 1n);
  }

  protected override burst(index: number, { target, oracle }: Bench, random: Random): void {
    this.#trace = new Trace();
    this.#before = this.tally.sent;
    runMessages({
      target,
      arena: this.arena,
      random,
      focus: rows[index % rows.length]!,
      queues: oracle.queues,
      messages: MESSAGES_PER_BURST,
      tally: this.tally,
      trace: this.#trace,
    });
  }

  protected override describe(index: number, target: TargetName): string {
    const path = join(tmpdir(), `ringside-fuzz-${this.options.seed}-${index}.json`);
    saveTrace(path, { target, options: [], batches: this.#trace.batches });
    return (
      `about message ${this.tally.sent - this.#before} of the burst; the last ones:\n` +
      `${this.#trace.tail(TRACE_TAIL)}\nkept in ${path}: replay.ts --trace=${path} [--minimize]`
    );
  }

  override toString(): string {
    return `${this.tally}`;
  }
}
