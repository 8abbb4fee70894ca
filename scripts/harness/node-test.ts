/**
 * Stands in for `node:test` while scripts/test.mjs runs: passes every call on to the real module and
 * writes down what becomes of each test, one JSON line per event.
 *
 * The runtimes' own reports are not enough. Neither carries the reason of a skip; Deno reports
 * `t.skip()` as passed and keeps quiet about failing root hooks; Bun folds sub-tests into their
 * parent; and a process that dies leaves no report at all.
 */
import { appendFileSync } from "node:fs";
import * as real from "node:test";

type Body = (this: unknown, context: any, done?: (error?: unknown) => void) => unknown;
type Options = { skip?: boolean | string; todo?: boolean | string };
type Register = (name: string, options: object, body?: Body) => unknown;

const path = process.env.RINGSIDE_TEST_EVENTS;
if (!path) throw new Error("RINGSIDE_TEST_EVENTS is not set: start tests by scripts/test.mjs");

// Bun puts this module in the place of `node:test`, so the originals are taken out once.
const original = { ...real } as Record<string, any>;

/** Names of the suites around the test being declared. */
let suites: readonly string[] = [];
let tests = 0;

export function emit(event: Record<string, unknown>): void {
  appendFileSync(path!, `${JSON.stringify(event)}\n`);
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function parse(args: any[]): { name: string; options: Options; body: Body | undefined } {
  const name = typeof args[0] === "string" ? args.shift() : "";
  const options = typeof args[0] === "object" && args[0] !== null ? args.shift() : {};
  return { name: name || args[0]?.name || "(anonymous)", options, body: args[0] };
}

/** Why a test will not run, or null when it will. An empty text when nobody said why. */
function skipReason({ skip, todo }: Options): string | null {
  if (skip) return skip === true ? "" : skip;
  if (todo) return todo === true ? "to do" : `to do: ${todo}`;
  return null;
}

function call(body: Body, self: unknown, context: unknown): unknown {
  if (body.length < 2) return body.call(self, context);
  return new Promise<void>((resolve, reject) => {
    body.call(self, context, (error) => (error ? reject(error) : resolve()));
  });
}

function instrument(body: Body, id: number, path: readonly string[]): Body {
  return async function (this: unknown, context: any) {
    emit({ event: "start", id });
    let skipped: string | undefined;
    const skip = context.skip.bind(context);
    context.skip = (reason = "") => {
      skipped = reason;
      skip(reason);
    };
    context.test = registerTest(context.test.bind(context), path);
    try {
      await call(body, this, context);
    } catch (error) {
      emit({ event: "fail", id, message: message(error) });
      throw error;
    }
    emit(skipped === undefined ? { event: "pass", id } : { event: "skip", id, reason: skipped });
  };
}

function registerTest(register: Register, parents?: readonly string[], preset: Options = {}) {
  return (...args: any[]) => {
    const { name, options, body } = parse(args);
    const path = [...(parents ?? suites), name];
    const id = ++tests;
    const merged = { ...preset, ...options };
    const reason = body === undefined ? (skipReason(merged) ?? "to do") : skipReason(merged);
    emit({ event: "declare", id, name: path.join(" > ") });
    if (reason !== null) emit({ event: "skip", id, reason });
    return register(name, merged, body && instrument(body, id, path));
  };
}

function registerSuite(register: Register, preset: Options = {}) {
  return (...args: any[]) => {
    const { name, options, body } = parse(args);
    const merged = { ...preset, ...options };
    const reason = skipReason(merged);
    const path = [...suites, name];
    if (reason !== null) {
      const id = ++tests;
      emit({ event: "declare", id, name: path.join(" > ") });
      emit({ event: "skip", id, reason });
    }
    // The runtimes call this at once or later, and not always inside the suite around it.
    const declare = function (this: unknown, context: unknown) {
      const around = suites;
      suites = path;
      try {
        return body?.call(this, context);
      } finally {
        suites = around;
      }
    };
    return register(name, merged, declare);
  };
}

function registerHook(kind: string) {
  return (body: Body, options?: object) => {
    const watched: Body = async function (this: unknown, context) {
      try {
        await call(body, this, context);
      } catch (error) {
        emit({ event: "error", name: `${kind} hook`, message: message(error) });
        throw error;
      }
    };
    return original[kind](watched, options);
  };
}

function withVariants(make: typeof registerSuite, register: Register) {
  return Object.assign(make(register), {
    skip: make(register, { skip: true }),
    todo: make(register, { todo: true }),
    only: make(register, { only: true } as Options),
  });
}

const asTest = (register: Register, preset?: Options) => registerTest(register, undefined, preset);

export const describe = withVariants(registerSuite, original.describe);
export const suite = describe;
export const it = withVariants(asTest, original.it);
export const before = registerHook("before");
export const after = registerHook("after");
export const beforeEach = registerHook("beforeEach");
export const afterEach = registerHook("afterEach");
export const mock = original.mock;
export const test = Object.assign(withVariants(asTest, original.test), {
  test: it,
  it,
  describe,
  suite,
  before,
  after,
  beforeEach,
  afterEach,
  mock,
});
export default test;
