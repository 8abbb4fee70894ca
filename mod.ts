/** The public API of Ringside: what devices are written with, and `serve` to run them. */
export { type Endpoint, type ServeSettings, serve } from "./conventions/serve.ts";
export * from "./core/mod.ts";
export { Iovecs, SystemError } from "./ffi/mod.ts";
