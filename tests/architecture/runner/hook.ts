/** Not a test file by its name: all tests pass, the clean-up does not. */
import { after, test } from "node:test";

after(() => {
  throw new Error("thrown by a hook");
});
test("passes", () => {});
