/**
 * A scenario is one boot and the steps that share it. Each step is a test of its own; a failing
 * one shows what the guest and the back-ends said. Works alike under `bun test` and `deno test`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runtime, standIn } from "./back-end.ts";
import { labProblem } from "./lab.ts";

export interface StepOptions {
  timeoutMs?: number;
  /** Why the step makes no sense with QEMU's block back-end, if so. */
  notWithStandIn?: string;
  /** Why it cannot be tried here, if so. */
  skip?: string | false;
}

export interface Scenario {
  /** A folder that lives as long as the scenario. */
  readonly folder: string;
  /** Adds a step. The first one sets up what the others need. */
  step(name: string, body: () => Promise<void>, options?: StepOptions): void;
  /**
   * Has something stopped at the end and its log shown on failure. Returns it. A warning in the
   * log fails the step. A later thing of the same name takes the place of the earlier one.
   */
  owns<T extends Owned>(name: string, thing: T): T;
  /**
   * Overlooks the warnings so far of a boot with more than two disks. The firmware starts a ring on each and
   * leaves them behind where QEMU then loads the initial file system: a back-end that hears of a ring's first
   * kick too late finds programs in it.
   */
  overlookFirmware(): void;
  /** Adds the last step: everything stops. Not a hook, for Deno runs none outside of a suite. */
  end(): void;
}

interface Owned {
  log(): string;
  /** Ends it and tells its exit status, if that means something. */
  stop(): Promise<unknown>;
}

/** A step that could not be tried. What the processes said is shown with the step that failed. */
class NotRun extends Error {}

const complaints = (thing: Owned): string[] => thing.log().match(/^.*: (warn|error): .*$/gm) ?? [];

/** Begins a scenario. Its first step sets up what the others need. `problem`: why it cannot be tried. */
export function scenario(title: string, problem: string | null = labProblem()): Scenario {
  const folder = problem === null ? mkdtempSync(join(tmpdir(), "ringside-guest-")) : "";
  const owned = new Map<string, Owned>();
  const all: { name: string; thing: Owned; told: number }[] = [];
  const logs = () => [...owned].map(([name, { log }]) => `--- ${name}\n${log()}`).join("\n");
  let count = 0;
  let lost: string | null = null;

  /** Runs a step. A nack or a lost connection fails it too, though the front-end may mend that. */
  const checked = async (body: () => Promise<void>) => {
    await body();
    for (const entry of all) {
      const lines = complaints(entry.thing);
      const fresh = lines.slice(entry.told);
      entry.told = lines.length;
      if (fresh.length > 0) throw new Error(`${entry.name} complained: ${fresh.join("; ")}`);
    }
  };
  const add = (name: string, body: () => Promise<void>, options: StepOptions) => {
    const skip = problem ?? ((standIn && options.notWithStandIn) || options.skip);
    const full = `${title} (${standIn ? "qemu-storage-daemon" : runtime}): ${name}`;
    if (skip) {
      // Not every runner prints the reason of a skip, all print the name.
      test(`${full} [skipped: ${skip}]`, { skip }, () => {});
      return;
    }
    test(full, { timeout: options.timeoutMs ?? 90_000 }, () =>
      checked(body).catch((error) => {
        throw error instanceof NotRun ? error : new Error(`${explain(error)}\n${logs()}`);
      }),
    );
  };
  const step: Scenario["step"] = (name, body, options = {}) => {
    const first = count++ === 0;
    const run = async () => {
      if (lost !== null) throw new NotRun(`not run, for the first step failed: ${lost}`);
      if (first) lost = "it did not end";
      await body().catch((error) => {
        if (first) lost = explain(error).split("\n")[0];
        throw error;
      });
      if (first) lost = null;
    };
    add(name, run, options);
  };
  const owns: Scenario["owns"] = (name, thing) => {
    owned.set(name, thing);
    all.push({ name, thing, told: 0 });
    return thing;
  };
  const end = () => {
    const stopAll = async () => {
      const failed: string[] = [];
      // The guest came last and goes first.
      for (const [name, thing] of [...owned].toReversed()) {
        const status = await thing.stop().catch((error) => String(error));
        if (status !== undefined && status !== 0) failed.push(`${name} ended with ${status}`);
      }
      rmSync(folder, { recursive: true, force: true });
      if (failed.length > 0) throw new Error(failed.join("\n"));
    };
    add("everything stops cleanly", stopAll, {});
  };
  const overlookFirmware = () => {
    for (const entry of all) entry.told = complaints(entry.thing).length;
  };
  return { folder, step, owns, overlookFirmware, end };
}

const explain = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : String(error);
