/** What was sent and what became of it, by rows. */
import type { MessageRow } from "../../core/protocol.ts";
import { accepted, type Draft, type Outcome } from "./wire.ts";

const columns = ["ack", "nack", "reply", "refusal", "silent", "closed"] as const;
type Column = (typeof columns)[number];

/** Outcomes that a row can have, by its rule. */
export function pathsOf({ reply }: MessageRow): readonly Column[] {
  if (reply === "ack") return ["ack", "nack", "silent", "closed"];
  return reply.refusal === undefined ? ["reply", "closed"] : ["reply", "refusal", "closed"];
}

export class Tally {
  readonly #rows = new Map<string, Record<Column, number>>();
  /** Messages of the back-end by name. */
  readonly requests = new Map<string, number>();
  sent = 0;
  accepted = 0;
  connections = 0;

  add({ name }: Draft, outcome: Outcome): void {
    if (outcome === "unseen") return;
    this.sent++;
    if (accepted(outcome)) this.accepted++;
    if (outcome === "cut") return;
    this.#of(name)[outcome]++;
  }

  #of(name: string): Record<Column, number> {
    let counts = this.#rows.get(name);
    if (counts === undefined) {
      counts = { ack: 0, nack: 0, reply: 0, refusal: 0, silent: 0, closed: 0 };
      this.#rows.set(name, counts);
    }
    return counts;
  }

  get share(): number {
    return this.sent === 0 ? 0 : this.accepted / this.sent;
  }

  /** How often a row was accepted. */
  acceptedOf(name: string): number {
    const { ack, reply, silent } = this.#of(name);
    return ack + reply + silent;
  }

  /** The rows' outcomes that never came. */
  missing(rows: readonly MessageRow[], implemented: (row: MessageRow) => boolean): string[] {
    return rows.flatMap((row) => {
      const counts = this.#of(row.name);
      const good = new Set<Column>(["ack", "reply", "silent"]);
      return pathsOf(row)
        .filter((path) => counts[path] === 0 && (!good.has(path) || implemented(row)))
        .map((path) => `${row.name}: ${path}`);
    });
  }

  table(): string {
    const line = (cells: readonly (string | number)[]) =>
      `${String(cells[0]).padEnd(26)}${cells
        .slice(1)
        .map((cell) => String(cell).padStart(9))
        .join("")}`;
    const body = [...this.#rows].map(([name, counts]) =>
      line([name, ...columns.map((column) => counts[column])]),
    );
    const requests = [...this.requests].map(([name, count]) => `${name} ${count}`).join(", ");
    return [line(["row", ...columns]), ...body, `of the back-end: ${requests || "none"}`].join(
      "\n",
    );
  }

  toString(): string {
    const percent = (100 * this.share).toFixed(1);
    return `${this.sent} messages on ${this.connections} connections, ${percent} % accepted`;
  }
}
