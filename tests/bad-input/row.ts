/** The frame around each test of the catalogue: one row, one live process, the same checks after. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Guest, type GuestOptions } from "./guest.ts";
import { type Holdings, Program, type StartOptions } from "./program.ts";

/** Runs of random input are this much longer with RINGSIDE_TEST_FULL=1. */
export const full = process.env.RINGSIDE_TEST_FULL === "1";

/** For one row, in milliseconds. Nothing here takes that long unless something hangs. */
export const TIME_LIMIT = full ? 600_000 : 60_000;

export interface RowOptions {
  /** What the log must say; one line matches each. */
  readonly log?: readonly RegExp[];
}

export interface Suite {
  readonly program: Program;
  /** A front-end that behaves, until it does not. */
  guest(options?: GuestOptions): Guest;
  /** Declares the test of a row. `name` begins with the row's id. */
  row(name: string, options: RowOptions, body: (program: Program) => void | Promise<void>): void;
}

/** One back-end process for the tests of a file. */
export function suite(options: StartOptions = {}): Suite {
  let started: Program | null = null;
  let held: Holdings | null = null;
  const program = (): Program => {
    assert.ok(started, "the back-end runs");
    return started;
  };
  before(() => {
    started = new Program(options);
    // What is made once, at the first use, must not look like a leak.
    for (let i = 0; i < 3; i++) serves(started);
    held = started.settled();
  });
  after(() => {
    if (started === null) return;
    const { alive } = started;
    const took = started.stop();
    assert.ok(alive, "the back-end ran to the end");
    assert.notEqual(took, -1, "SIGTERM ends the back-end");
  });
  return {
    get program() {
      return program();
    },
    guest: (guestOptions) => new Guest(program().socket, guestOptions),
    row(name, { log = [] }, body) {
      test(name, { timeout: TIME_LIMIT }, async () => {
        const under = program();
        const line = under.log().length;
        await body(under);
        assert.ok(under.alive, `the back-end is alive; its last words: ${under.log().at(-1)}`);
        serves(under);
        const left = under.differences(held!);
        // What one row leaks must not fail the others.
        if (left.length > 0) held = under.settled();
        assert.deepEqual(left, [], "nothing is left behind");
        explains(under.log(line), log);
      });
    },
  };
}

/** Checks that a new connection gets verified I/O on two queues. */
export function serves({ socket }: Program): void {
  using guest = new Guest(socket);
  for (const ring of guest.rings) guest.verify(ring);
}

function explains(lines: readonly string[], expected: readonly RegExp[]): void {
  for (const pattern of expected) {
    assert.ok(
      lines.some((line) => pattern.test(line)),
      `the log has a line like ${pattern}:\n${lines.slice(-20).join("\n")}`,
    );
  }
  const odd = lines.filter(
    (line) => !/^vhost-user-[a-z]+: (error|warn|info|debug): [A-Z]/.test(line),
  );
  assert.deepEqual(odd, [], "each reason is one line");
  // A message is not refused because its reply finds nobody.
  const wrong = /the device failed|TypeError|RangeError|Refused .*\bsendmsg\b/i;
  const failed = lines.filter((line) => wrong.test(line));
  assert.deepEqual(failed, [], "bad input is refused, not run into");
}
