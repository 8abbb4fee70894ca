/** Deno's side of the FFI. Never imported by Bun. */
import type { ArgType, Callback, Functions, ResultType, Runtime, Signature } from "./symbols.ts";

const argNames: Record<ArgType, string> = {
  i32: "i32",
  u32: "u32",
  i64: "i64",
  usize: "u64",
  buffer: "buffer",
};
const resultNames: Record<ResultType, string> = { i32: "i32", usize: "u64" };

/**
 * Deno's fast call path takes 64-bit values as BigInt only. `BigInt(n)` would make an object of each;
 * reading one from an array that the number was written to in halves does not, once compiled.
 * The conversion is generated per function, because a generic `(...args)` wrapper would allocate too.
 */
function convert(call: (...args: any[]) => any, { args, result }: Signature) {
  const wide = (type: ArgType) => type === "i64" || type === "usize";
  if (!args.some(wide) && result !== "usize") return call;
  const whole = new BigInt64Array(args.length);
  const halves = new Int32Array(whole.buffer);
  const names = args.map((_, i) => `a${i}`);
  const stores = args.map((type, i) =>
    wide(type)
      ? `halves[${2 * i}] = a${i}; halves[${2 * i + 1}] = Math.floor(a${i} / 4294967296);`
      : "",
  );
  const passed = args.map((type, i) => (wide(type) ? `whole[${i}]` : `a${i}`));
  const expression = `call(${passed.join(", ")})`;
  const returned = result === "usize" ? `Number(${expression})` : expression;
  const body = `return (${names.join(", ")}) => { ${stores.join(" ")} return ${returned}; };`;
  return new Function("call", "whole", "halves", body)(call, whole, halves);
}

function bind<T extends Record<string, Signature>>(library: string, table: T): Functions<T> {
  const rows = Object.entries(table).map(([name, { args, result }]) => [
    name,
    { parameters: args.map((type) => argNames[type]), result: resultNames[result] },
  ]);
  const raw = Deno.dlopen(library, Object.fromEntries(rows)).symbols;
  const bound = Object.entries(table).map(([name, row]) => [name, convert(raw[name]!, row)]);
  return Object.fromEntries(bound) as Functions<T>;
}

function callback({ args, result }: Signature, call: (...args: number[]) => number): Callback {
  const types = { parameters: args.map((type) => argNames[type]), result: resultNames[result] };
  const made = new Deno.UnsafeCallback(types, (...given) => call(...given.map(Number)));
  const address = Number(Deno.UnsafePointer.value(made.pointer));
  return { address, [Symbol.dispose]: () => made.close() };
}

export const runtime: Runtime = {
  name: "deno",
  version: Deno.version.deno,
  bind,
  callback,
  view(address, length) {
    const pointer = Deno.UnsafePointer.create(BigInt(address));
    if (pointer === null) throw new RangeError("Cannot view memory at address 0");
    return Deno.UnsafePointerView.getArrayBuffer(pointer, length);
  },
  addressOf: (view) => Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(view))),
  provide(specifier, url) {
    // The import map that every launcher passes does the same, except for files below node_modules.
    process.getBuiltinModule("node:module").registerHooks?.({
      resolve: (wanted, context, next) =>
        wanted === specifier ? { url: url.href, shortCircuit: true } : next(wanted, context),
    });
  },
  programModules: null,
  environment: {},
  // Its programs unpack nothing and carry all of node_modules; Bun's do what is wanted.
  compile: null,
};
