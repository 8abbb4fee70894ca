/** Runs scripts/demo.mjs under Node, with this test's runtime on both sides of the socket. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { runtime } from "../../ffi/mod.ts";
import { root } from "./sources.ts";

export interface DemoResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface DemoSettings {
  /** Sends SIGINT as soon as this is printed. */
  readonly interruptAfter?: string;
}

/** `options` without `--runtime`, unless another one is to be tried. */
export function runDemo(
  options: readonly string[],
  { interruptAfter }: DemoSettings = {},
): Promise<DemoResult> {
  const script = join(root, "scripts", "demo.mjs");
  const child = spawn("node", [script, `--runtime=${runtime.name}`, ...options], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text;
    if (interruptAfter !== undefined && text.includes(interruptAfter)) {
      process.kill(child.pid!, "SIGINT");
    }
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, stdout, stderr }));
  });
}
