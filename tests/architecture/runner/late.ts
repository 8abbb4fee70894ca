/** Not a test file by its name: an error that nobody catches while another test runs. */
import { test } from "node:test";

test("starts a timer", () => {
  setTimeout(() => {
    throw new Error("thrown by a timer");
  }, 20);
});
test("runs meanwhile", () => new Promise((resolve) => setTimeout(resolve, 100)));
