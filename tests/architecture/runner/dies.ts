/** Not a test file by its name: its process dies in the second of three tests. */
import { test } from "node:test";

test("passes", () => {});
test("dies", () => {
  process.kill(process.pid, "SIGKILL");
});
test("comes too late", () => {});
