/**
 * What `deno test` is given instead of the test file, which it imports. Deno says nothing about a test
 * file that throws after its first test is declared, nor about errors that nobody catches.
 */
import { pathToFileURL } from "node:url";
import { emit } from "./node-test.ts";

function report(name: string, error: unknown): void {
  console.error(error);
  emit({ event: "error", name, message: error instanceof Error ? error.message : String(error) });
}

process.on("uncaughtException", (error) => report("uncaught error", error));

try {
  await import(pathToFileURL(process.env.RINGSIDE_TEST_FILE!).href);
} catch (error) {
  report("loading the file", error);
}
