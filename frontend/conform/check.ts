/** What a conformance check is, and how it ends. */
import type { Play } from "./play.ts";

/**
 * - `n/a`: the back-end does not offer what the check is about; that is no pass.
 * - `skip`: the tester was not told enough, such as which device it is or how to start it.
 */
export type Outcome = "pass" | "fail" | "n/a" | "skip";

export const outcomes: readonly Outcome[] = ["pass", "fail", "n/a", "skip"];

export interface Check {
  /** Stable: `GROUP.NAME`. Rows of the bad-input catalogue carry their id, as `framing.F2-version`. */
  readonly id: string;
  /** What a right back-end does, in one line. */
  readonly title: string;
  /** Where that is written, as `virtio 1.3 2.7.4.2` or `vhost-user: Ring states`. */
  readonly source: string;
  /** Returns when the back-end does it, throws when not. */
  readonly run: (play: Play) => void | Promise<void>;
}

export interface Result {
  readonly id: string;
  readonly title: string;
  readonly source: string;
  readonly outcome: Outcome;
  /** Why: what was expected and seen, what is not offered, what is missing. */
  readonly detail: string;
  readonly milliseconds: number;
}

/** Ends a check before its end. */
export class Verdict extends Error {
  readonly outcome: Outcome;

  constructor(outcome: Outcome, message: string) {
    super(message);
    this.name = "Verdict";
    this.outcome = outcome;
  }
}

export function fail(expected: string, seen: string): never {
  throw new Verdict("fail", `expected ${expected}; seen: ${seen}`);
}

/** The back-end does not offer what is checked. */
export function notOffered(what: string): never {
  throw new Verdict("n/a", `not offered: ${what}`);
}

export function skip(what: string): never {
  throw new Verdict("skip", `needs ${what}`);
}

/** Fails the check unless `seen` is `expected`. */
export function expectEqual<T>(what: string, seen: T, expected: T): void {
  if (!Object.is(seen, expected)) fail(`${what} ${expected}`, `${seen}`);
}

/** The group of a check: its id up to the first dot. */
export function groupOf(id: string): string {
  return id.slice(0, id.indexOf("."));
}
