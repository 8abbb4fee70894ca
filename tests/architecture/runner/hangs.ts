/** Not a test file by its name: waits longer than it may, with a process of its own running. */
import { spawn } from "node:child_process";
import { test } from "node:test";

test("hangs", async () => {
  const child = spawn("sleep", ["600"], { stdio: "ignore" });
  console.log(`child ${child.pid}`);
  await new Promise((resolve) => setTimeout(resolve, 600_000));
});
