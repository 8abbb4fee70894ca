/** Scripts of this folder as processes of their own, under the runtime that runs the test. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { runtime } from "../../ffi/mod.ts";

export interface ChildResult {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

export interface Child {
  readonly process: ChildProcess;
  /** Resolves when the child has printed its first line. */
  readonly ready: Promise<void>;
  readonly ended: Promise<ChildResult>;
}

/** Starts `name`, a file of this folder. It is killed after 20 s. */
export function startChild(name: string, env: Record<string, string> = {}): Child {
  const script = fileURLToPath(new URL(name, import.meta.url));
  const command = runtime.name === "deno" ? ["run", "-A", "--no-check", "--no-lock"] : [];
  const child = spawn(process.execPath, [...command, script], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1", ...env },
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
  const result: ChildResult = { code: null, signal: null, stdout: "", stderr: "" };
  const ready = Promise.withResolvers<void>();
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    result.stdout += text;
    if (result.stdout.includes("\n")) ready.resolve();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    result.stderr += text;
  });
  const ended = new Promise<ChildResult>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      ready.resolve();
      resolve({ ...result, code, signal });
    });
  });
  return { process: child, ready: ready.promise, ended };
}
