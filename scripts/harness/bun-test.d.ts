/** The part of Bun's test module that bun-preload.ts uses. */
declare module "bun:test" {
  export const mock: { module(specifier: string, exports: () => Record<string, unknown>): void };
}
