/** What was sent last, in a form that can be kept in a file and played again. */
import { readFileSync, writeFileSync } from "node:fs";
import { frontEndMessageByCode, type MessageRow } from "../../core/protocol.ts";
import type { Objects } from "./objects.ts";
import type { Variant } from "./target.ts";
import type { Draft } from "./wire.ts";

/** A message; `payload` in hex, descriptors by their kinds. */
interface Line {
  readonly code: number;
  readonly flags: number;
  readonly size: number;
  readonly payload: string;
  readonly fds: readonly string[];
  readonly cuts?: readonly number[];
  readonly carrier?: number;
  readonly truncate?: number;
}

/** Messages sent at once; the first batch of a connection says so. */
export interface Batch {
  readonly connects: boolean;
  readonly lines: readonly Line[];
}

export interface TraceFile {
  readonly variant: Variant;
  readonly batches: readonly Batch[];
}

export class Trace {
  readonly batches: Batch[] = [];
  #connects = true;

  connect(): void {
    this.#connects = true;
  }

  add(drafts: readonly Draft[]): void {
    const lines = drafts.map(({ code, flags, size, payload, fds, cuts, carrier, truncate }) => ({
      code,
      flags,
      size,
      payload: Buffer.from(payload).toString("hex"),
      fds: fds.map(({ kind }) => kind),
      cuts,
      carrier,
      truncate,
    }));
    this.batches.push({ connects: this.#connects, lines });
    this.#connects = false;
  }

  /** The last messages, one line each. */
  tail(count: number): string {
    return describeBatches(this.batches, count);
  }
}

/** The last `count` messages, one line each. */
export function describeBatches(batches: readonly Batch[], count = Infinity): string {
  const lines = batches.flatMap((batch) => batch.lines);
  return lines
    .slice(Math.max(0, lines.length - count))
    .map(describeLine)
    .join("\n");
}

function describeLine({ code, flags, payload, fds }: Line): string {
  const name = frontEndMessageByCode.get(code)?.name ?? code;
  const shown = payload.length > 160 ? `${payload.slice(0, 160)}...` : payload;
  return `  ${name} flags=${flags} ${shown} [${fds.join(" ")}]`;
}

export function saveTrace(path: string, file: TraceFile): void {
  writeFileSync(path, JSON.stringify(file));
}

export function loadTrace(path: string): TraceFile {
  return JSON.parse(readFileSync(path, "utf8")) as TraceFile;
}

export function draftOf(
  { payload, fds, ...line }: Line,
  rows: ReadonlyMap<number, MessageRow>,
  objects: Objects,
): Draft {
  const row = rows.get(line.code);
  return {
    ...line,
    row,
    name: row?.name ?? "(unknown)",
    payload: new Uint8Array(Buffer.from(payload, "hex")),
    fds: fds.map((kind) => objects.get(kind)),
  };
}
