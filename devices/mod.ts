/** The devices that come with Ringside, each imported when used. */
import type { AnyDevice } from "../core/device.ts";

export const devices: Readonly<Record<string, () => Promise<AnyDevice>>> = {
  blk: async () => (await import("./blk/mod.ts")).blk,
  gpu: async () => (await import("./gpu/mod.ts")).gpu,
  input: async () => (await import("./input/mod.ts")).input,
  net: async () => (await import("./net/mod.ts")).net,
  rng: async () => (await import("./rng/mod.ts")).rng,
};
