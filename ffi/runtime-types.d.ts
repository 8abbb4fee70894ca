/** The parts of the two runtimes' own APIs that `ffi/` uses; both bring full types of their own. */

declare module "bun:ffi" {
  type BunSignature = { args: string[]; returns: string };
  export function dlopen(
    path: string,
    symbols: Record<string, BunSignature>,
  ): { symbols: Record<string, (...args: any[]) => any> };
  export function toArrayBuffer(address: number, offset: number, length: number): ArrayBuffer;
  export function ptr(view: ArrayBufferView): number;
  export class JSCallback {
    constructor(call: (...args: unknown[]) => number, types: BunSignature);
    readonly ptr: number;
    close(): void;
  }
}

declare const Bun: {
  readonly version: string;
  plugin(plugin: {
    name: string;
    setup(build: {
      module(specifier: string, load: () => Promise<{ exports: object; loader: "object" }>): void;
    }): void;
  }): void;
  build(plan: {
    entrypoints: string[];
    root: string;
    target: "bun";
    compile: { outfile: string; autoloadDotenv: boolean; autoloadBunfig: boolean };
    plugins: {
      name: string;
      setup(build: {
        onResolve(
          what: { filter: RegExp },
          resolve: (found: { path: string }) => { path: string },
        ): void;
      }): void;
    }[];
  }): Promise<unknown>;
};

declare namespace Deno {
  type Pointer = { readonly __pointer: unique symbol };
  const version: { readonly deno: string };
  function dlopen(
    path: string,
    symbols: Record<string, { parameters: string[]; result: string }>,
  ): { symbols: Record<string, (...args: any[]) => any> };
  const UnsafePointer: {
    create(address: bigint): Pointer | null;
    of(view: ArrayBufferView): Pointer | null;
    value(pointer: Pointer | null): bigint;
  };
  class UnsafeCallback {
    constructor(
      types: { parameters: string[]; result: string },
      call: (...args: unknown[]) => number,
    );
    readonly pointer: Pointer;
    close(): void;
  }
  const UnsafePointerView: { getArrayBuffer(pointer: Pointer, length: number): ArrayBuffer };
}
