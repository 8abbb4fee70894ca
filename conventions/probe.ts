/** What libvirt asks a program before it takes it, and how: `--print-capabilities`. */
import { spawnSync } from "node:child_process";

/** libvirt would wait for ever. */
const LIMIT_MS = 20_000;

export interface Answer {
  readonly type: unknown;
  readonly features: readonly string[];
}

/** Asks a program, with hardly any environment. Throws, with a reason, where libvirt would pass it over. */
export function askCapabilities(binary: string): Answer {
  const env = { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C" };
  const options = { env, encoding: "utf8", cwd: "/", timeout: LIMIT_MS } as const;
  const run = spawnSync(binary, ["--print-capabilities"], options);
  if (run.error !== undefined) throw new Error(run.error.message);
  if (run.status !== 0) {
    throw new Error(
      run.stderr.trim().split("\n")[0] || `it ended with ${run.status ?? run.signal}`,
    );
  }
  let answer: { type?: unknown; features?: unknown } | null;
  try {
    answer = JSON.parse(run.stdout);
  } catch {
    throw new Error("its capabilities are no JSON");
  }
  if (!Array.isArray(answer?.features)) throw new Error('its capabilities have no "features"');
  return { type: answer.type, features: answer.features };
}
