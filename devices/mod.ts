/** The devices that come with Ringside, each imported when used. */
import type { AnyDevice } from "../core/device.ts";

export const devices: Readonly<Record<string, () => Promise<AnyDevice>>> = {
  blk: async () => (await import("./blk/mod.ts")).blk,
  gpu: async () => (await import("./gpu/mod.ts")).gpu,
  rng: async () => (await import("./rng/mod.ts")).rng,
};
