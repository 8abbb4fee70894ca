/** Not a test file by its name: throws after its first test is declared. */
import { test } from "node:test";

test("passes", () => {});
throw new Error("thrown by the file");
