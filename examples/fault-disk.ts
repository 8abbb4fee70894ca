/**
 * A disk in memory that fails by rule, to see what a guest's file system makes of it:
 *
 *     ringside ./fault-disk.ts --socket-path=/run/vm/disk.sock \
 *       --rule=read,every=100,delay=250 --rule=write,from=1M,to=2M,error --rule=write,every=50,torn
 *
 * A rule names a kind of request (read, write or flush), optionally which of them (`every=N`, the
 * bytes `from=` to `to=`), and what happens: `error`, `delay=MILLISECONDS`, or `torn`, which stores
 * the first half of a write, drops the rest and reports success.
 */
import { Type } from "@ringside/vhost";
import { blkDevice, type Store, type Transfer } from "@ringside/vhost/devices/blk";

const EIO = 5;

interface Rule {
  readonly on: string;
  readonly every: number;
  readonly from: number;
  readonly to: number;
  readonly delay: number;
  readonly error: boolean;
  readonly torn: boolean;
  seen: number;
}

/** A number with an optional K, M or G. */
function bytesOf(text: string): number {
  const [, digits, unit] = /^(\d+)([KMG]?)$/.exec(text) ?? [];
  if (digits === undefined) throw new Error(`Cannot use "${text}" as a number: expected 512 or 4K`);
  return Number(digits) * 1024 ** " KMG".indexOf(unit || " ");
}

function parseRule(text: string): Rule {
  const [on = "", ...parts] = text.split(",");
  const given = new Map(parts.map((part) => part.split("=", 2) as [string, string | undefined]));
  const wrong = [...given.keys()].find(
    (key) => !["every", "from", "to", "delay", "error", "torn"].includes(key),
  );
  if (!["read", "write", "flush"].includes(on) || wrong !== undefined) {
    throw new Error(`Cannot use the rule "${text}": unknown word "${wrong ?? on}"`);
  }
  const number = (key: string, otherwise: number) =>
    given.has(key) ? bytesOf(given.get(key) ?? "") : otherwise;
  return {
    on,
    every: number("every", 1),
    from: number("from", 0),
    to: number("to", Infinity),
    delay: number("delay", 0),
    error: given.has("error"),
    torn: given.has("torn"),
    seen: 0,
  };
}

class FaultStore implements Store {
  readonly readOnly = false;
  readonly async = true;
  readonly physicalBlockSize = 512;
  readonly size: number;
  readonly #data: Uint8Array;
  readonly #rules: readonly Rule[];

  constructor(size: number, rules: readonly Rule[]) {
    this.size = size;
    this.#data = new Uint8Array(size);
    this.#rules = rules;
  }

  async read(transfer: Transfer, offset: number): Promise<number> {
    const { error } = await this.#strike("read", offset, transfer.length);
    if (error) return -EIO;
    transfer.copyIn(this.#data.subarray(offset, offset + transfer.length));
    return 0;
  }

  async write(transfer: Transfer, offset: number): Promise<number> {
    const { error, torn } = await this.#strike("write", offset, transfer.length);
    if (error) return -EIO;
    const stored = torn ? transfer.length / 2 : transfer.length;
    transfer.copyOut(this.#data.subarray(offset, offset + stored));
    return 0;
  }

  async flush(): Promise<number> {
    return (await this.#strike("flush", 0, this.size)).error ? -EIO : 0;
  }

  [Symbol.dispose](): void {}

  /** Applies the rules that concern a request, delays included. */
  async #strike(on: string, offset: number, length: number) {
    const concerned = this.#rules.filter(
      (rule) => rule.on === on && offset + length > rule.from && offset < rule.to,
    );
    const due = concerned.filter((rule) => ++rule.seen % rule.every === 0);
    const delay = Math.max(0, ...due.map((rule) => rule.delay));
    if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
    return { error: due.some((rule) => rule.error), torn: due.some((rule) => rule.torn) };
  }
}

export default blkDevice({
  name: "fault-disk",
  summary: "Disk in memory that fails by rule",
  options: Type.Object({
    size: Type.String({ default: "64M", description: "Capacity in bytes, with K, M or G" }),
    rule: Type.Array(Type.String({ placeholder: "WHAT[,WHICH],FAULT" }), {
      description: "When to fail, as write,every=50,torn",
    }),
  }),
  async: true,
  open: ({ size, rule }) => new FaultStore(bytesOf(size), rule.map(parseRule)),
});
