/**
 * A device as its author's editor sees it: `npm test` checks this file against the declarations in
 * `dist/`, which is what "@ringside/vhost" means here.
 */
import {
  type AnyDevice,
  defineDevice,
  later,
  layout,
  le32,
  type PENDING,
  Type,
} from "@ringside/vhost";
import blk from "@ringside/vhost/devices/blk";
import rng from "@ringside/vhost/devices/rng";
import { type Runtime, SystemError } from "@ringside/vhost/ffi";

const echo = defineDevice({
  type: "echo",
  id: 63,
  summary: "Answers with what it was asked",
  options: Type.Object({ limit: Type.Integer({ default: 4096, description: "Bytes" }) }),
  features: { SLOWLY: 0 },
  config: layout(Type.Object({ limit: le32() })),
  queues: [{ name: "request", maxSize: 256 }],
  async: true,
  open: ({ limit }, host) => ({
    config: { limit: limit satisfies number },
    device: {
      handle(chain): number {
        const bytes = new Uint8Array(Math.min(chain.readableBytes, limit));
        chain.read(bytes);
        const held = chain.hold();
        return later(held, Promise.resolve(held.write(bytes)), host.log) satisfies typeof PENDING;
      },
    },
    offer: ["SLOWLY"],
  }),
});

defineDevice({
  ...echo,
  // @ts-expect-error: a handler that is async would never be awaited
  open: () => ({ config: {}, device: { handle: async () => 0 } }),
});

export const devices: readonly AnyDevice[] = [echo, blk, rng];
export const isRuntime = (value: Runtime | SystemError) => !(value instanceof SystemError);
