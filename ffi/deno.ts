/** Deno's side of the FFI. Never imported by Bun. */
import type { ArgType, Functions, ResultType, Runtime, Signature } from "./symbols.ts";

const argNames: Record<ArgType, string> = {
  i32: "i32",
  u32: "u32",
  i64: "i64",
  usize: "u64",
  buffer: "buffer",
};
const resultNames: Record<ResultType, string> = { i32: "i32", usize: "u64" };

/**
 * Deno's fast call path takes 64-bit values as BigInt only. The conversion is compiled per function,
 * because a generic `(...args)` wrapper would allocate an array for each call.
 */
function convert(call: (...args: any[]) => any, { args, result }: Signature) {
  const wide = (type: ArgType) => type === "i64" || type === "usize";
  if (!args.some(wide) && result !== "usize") return call;
  const names = args.map((_, i) => `a${i}`);
  const passed = args.map((type, i) => (wide(type) ? `BigInt(a${i})` : `a${i}`));
  const expression = `call(${passed.join(", ")})`;
  const body = result === "usize" ? `Number(${expression})` : expression;
  return new Function("call", `return (${names.join(", ")}) => ${body};`)(call);
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

export const runtime: Runtime = {
  name: "deno",
  version: Deno.version.deno,
  bind,
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
};
