/** Bun's side of the FFI. Never imported by Deno; `bun:ffi` stays a dynamic import so that a bundle
 *  that contains this file still loads there. */
import type {
  ArgType,
  Callback,
  Functions,
  ProgramPlan,
  ResultType,
  Runtime,
  Signature,
} from "./symbols.ts";

const { JSCallback, dlopen, ptr, toArrayBuffer } = await import("bun:ffi");

const argNames: Record<ArgType, string> = {
  i32: "i32",
  u32: "u32",
  i64: "i64",
  usize: "u64",
  buffer: "ptr",
};
const resultNames: Record<ResultType, string> = { i32: "i32", usize: "u64" };

function bind<T extends Record<string, Signature>>(library: string, table: T): Functions<T> {
  const rows = Object.entries(table).map(([name, { args, result }]) => [
    name,
    { args: args.map((type) => argNames[type]), returns: resultNames[result] },
  ]);
  const raw = dlopen(library, Object.fromEntries(rows)).symbols;
  const bound = Object.entries(table).map(([name, { result }]) => {
    const call = raw[name]!;
    // 64-bit results are BigInts in Bun; none of them is on the data plane.
    return [name, result === "usize" ? (...args: unknown[]) => Number(call(...args)) : call];
  });
  return Object.fromEntries(bound) as Functions<T>;
}

function callback({ args, result }: Signature, call: (...args: number[]) => number): Callback {
  const types = { args: args.map((type) => argNames[type]), returns: resultNames[result] };
  const made = new JSCallback((...given: unknown[]) => call(...given.map(Number)), types);
  return { address: made.ptr, [Symbol.dispose]: () => made.close() };
}

/** Where Bun shows a program of one file its own modules. */
const PROGRAM_MODULES = "file:///$bunfs/root/";

const escapeRegExp = (text: string) => text.replace(/[$()*+.?[\\\]^{|}/]/g, "\\$&");

async function compile({ entry, modules, root, specifiers, output }: ProgramPlan): Promise<void> {
  const names = Object.keys(specifiers).map(escapeRegExp);
  await Bun.build({
    entrypoints: [entry, ...modules],
    root,
    target: "bun",
    compile: { outfile: output, autoloadDotenv: false, autoloadBunfig: false },
    plugins: [
      {
        name: "specifiers",
        setup(build) {
          const filter = new RegExp(`^(${names.join("|")})$`);
          build.onResolve({ filter }, ({ path }) => ({ path: specifiers[path]! }));
        },
      },
    ],
  });
}

export const runtime: Runtime = {
  name: "bun",
  version: Bun.version,
  bind,
  callback,
  view: (address, length) => toArrayBuffer(address, 0, length),
  addressOf: (view) => ptr(view),
  provide(specifier, url) {
    Bun.plugin({
      name: specifier,
      setup(build) {
        build.module(specifier, async () => ({
          exports: await import(url.href),
          loader: "object",
        }));
      },
    });
  },
  programModules: import.meta.url.startsWith(PROGRAM_MODULES) ? PROGRAM_MODULES : null,
  // Mapped guest memory counts as garbage to be collected, and would let the heap grow with it.
  environment: { BUN_JSC_gcMaxHeapSize: `${128 * 2 ** 20}` },
  compile,
};
