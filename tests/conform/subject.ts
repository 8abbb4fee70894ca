/** Running the suite on a program, for the tests here. */
import { join } from "node:path";
import { runtime } from "../../ffi/mod.ts";
import {
  checksOf,
  type DeviceKind,
  probe,
  type Result,
  runChecks,
  Target,
} from "../../frontend/conform/mod.ts";
import { root } from "../support/program.ts";

export interface SubjectOptions {
  readonly device?: DeviceKind;
  /** Ids of the checks to run; all by default. */
  readonly only?: readonly string[];
  readonly timeout?: number;
}

/** The command of one of this repository's programs, under the runtime of the test. */
export function ours(name: string, args: string, from = join(root, "bin")): string {
  return `env RINGSIDE_RUNTIME=${runtime.name} ${join(from, name)} --socket-path={socket} ${args}`;
}

export async function examine(
  command: string,
  { device, only, timeout = 5000 }: SubjectOptions = {},
): Promise<readonly Result[]> {
  using target = Target.exec(command, { timeout });
  const offer = probe(target);
  const chosen = checksOf(device ?? null).filter(
    ({ id }) => only === undefined || only.includes(id),
  );
  return await runChecks(target, offer, { device: device ?? null, checks: chosen });
}

/** What failed, in words. */
export function failures(results: readonly Result[]): string[] {
  return results.filter(({ outcome }) => outcome === "fail").map((r) => `${r.id}: ${r.detail}`);
}
