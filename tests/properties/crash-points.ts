/**
 * Copies of the queues that can end like a process that is killed: before any of their stores to
 * memory that others see. What they stored until then stays, everything of their own is lost.
 */
import type { PackedQueue } from "../../core/packed.ts";
import type { SplitQueue } from "../../core/split.ts";
import { type Edits, mutate } from "./mutant.ts";

/** Ends a queue in the middle of whatever it does. */
export class Crash extends Error {}

/** All points where a copy can end, and those where one has. */
export const points = new Set<string>();
export const crashedAt = new Set<string>();

/** Points until the next crash, or null for none. */
let countdown: number | null = null;

function point(name: string): void {
  if (countdown === null || countdown-- > 0) return;
  countdown = null;
  crashedAt.add(name);
  throw new Crash(name);
}

/** Runs `body`. Returns false when it ended at its point number `at`, null for none. */
export function crashing(at: number | null, body: () => void): boolean {
  countdown = at;
  try {
    body();
    return true;
  } catch (error) {
    if (!(error instanceof Crash)) throw error;
    return false;
  } finally {
    countdown = null;
  }
}

/** Stores to rings and in-flight regions. */
const stores = [
  /\bAtomics\.store\(/,
  /\bpart\.fill\(/,
  /\bthis\.#?(?:u16|u32|bytes|used16|used32|halves|words|deviceEvent)\[[^;\n]*?\] = /,
  /(?<!\.#)\b(?:words|ring|u32)\[[^;\n]*?\] = /,
  /\bwords16\(part\)\[[^;\n]*?\] = /,
];
const store = new RegExp(stores.map(({ source }) => `(?:${source})`).join("|"), "g");

declare global {
  var ringsideCrashPoint: typeof point | undefined;
}

/** A class that can crash, after the edits of a mutation. */
export async function crashable<Q extends "SplitQueue" | "PackedQueue">(
  queue: Q,
  mutation: Edits = { name: "crashable", edits: [] },
): Promise<Q extends "SplitQueue" ? typeof SplitQueue : typeof PackedQueue> {
  globalThis.ringsideCrashPoint = point;
  const own = queue === "SplitQueue" ? "inflight-split.ts" : "inflight-packed.ts";
  const rewrite = (text: string, file: string): string => {
    let count = 0;
    return text.replace(store, (found) => {
      const name = `${file} ${++count}: ${found}`;
      if (mutation.edits.length === 0) points.add(name);
      return `globalThis.ringsideCrashPoint(${JSON.stringify(name)}), ${found}`;
    });
  };
  const name = `${mutation.name} in a recovery`;
  const made = await mutate(queue, { ...mutation, name }, { more: ["inflight.ts", own], rewrite });
  return made as any;
}
