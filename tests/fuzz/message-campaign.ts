/** Bursts of messages, each about a row of the protocol. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { draftNames, drafts, serveProtocol } from "../../core/drafts.ts";
import { frontEndMessages, type MessageRow } from "../../core/protocol.ts";
import type { Random } from "../bad-input/random.ts";
import { type Bench, Campaign } from "./campaign.ts";
import { runMessages } from "./message-burst.ts";
import { Tally } from "./tally.ts";
import type { Variant } from "./target.ts";
import { saveTrace, Trace } from "./trace.ts";

const MESSAGES_PER_BURST = 500;
const TRACE_TAIL = 12;

const parts: Variant = { device: "parts" };
const translated: Variant = { device: "parts", options: ["--iommu"] };
const blk: Variant = { device: "blk" };
const rng: Variant = { device: "rng" };
const [standalone, ...others]: readonly Variant[] = draftNames.map((draft) => ({
  device: "parts",
  drafts: [draft],
}));
/** Devices take turns, so that each of them comes to be asked about each row. */
const turns: readonly Variant[] = [parts, blk, translated, rng, parts, blk, standalone!, ...others];

/** The rows of the protocol and of its drafts. */
export const allRows: readonly MessageRow[] = [
  ...Object.values(frontEndMessages),
  ...Object.values(drafts)
    .flatMap(({ messages }) => messages.map(({ row }) => row))
    .filter(({ name }) => !(name in frontEndMessages)),
];

export class MessageCampaign extends Campaign {
  readonly tally = new Tally();
  protected override readonly kind = "messages";
  protected override readonly turns = turns;
  #trace = new Trace();
  #before = 0;

  override get amount(): number {
    return this.tally.sent;
  }

  /** Tells whether some back-end here implements a row: it has a handler, and what it needs is offered. */
  implements({ name, code, needs }: MessageRow): boolean {
    return [...this.benches.values()].some(({ target, oracle }) => {
      const { rows, handlers } = serveProtocol(target.variant.drafts ?? []);
      if (rows.get(code)?.name !== name || handlers[code] === undefined) return false;
      return needs === undefined || ((oracle.offered >> BigInt(needs)) & 1n) === 1n;
    });
  }

  protected override burst(index: number, { target, oracle }: Bench, random: Random): void {
    this.#trace = new Trace();
    this.#before = this.tally.sent;
    const rows = [...serveProtocol(target.variant.drafts ?? []).rows.values()];
    runMessages({
      target,
      arena: this.arena,
      random,
      rows,
      focus: rows[Math.floor(index / turns.length) % rows.length]!,
      queues: oracle.queues,
      messages: MESSAGES_PER_BURST,
      tally: this.tally,
      trace: this.#trace,
    });
  }

  protected override describe(index: number, variant: Variant): string {
    const path = join(tmpdir(), `ringside-fuzz-${this.options.seed}-${index}.json`);
    saveTrace(path, { variant, batches: this.#trace.batches });
    return (
      `about message ${this.tally.sent - this.#before} of the burst; the last ones:\n` +
      `${this.#trace.tail(TRACE_TAIL)}\nkept in ${path}: replay.ts --trace=${path} [--minimize]`
    );
  }

  override toString(): string {
    return `${this.tally}`;
  }
}
