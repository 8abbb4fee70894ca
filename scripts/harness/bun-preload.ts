/** Loaded by `bun test` before each test file: puts node-test.ts in the place of `node:test`. */
import { mock } from "bun:test";
import * as watched from "./node-test.ts";

mock.module("node:test", () => ({ ...watched }));
