/** An entropy source (virtio 1.3, 5.4): fills whatever the driver offers with random bytes. */
import { defineDevice, layout, Type } from "../../core/mod.ts";

/** `crypto.getRandomValues` fills at most this many bytes per call. */
const RANDOM_LIMIT = 65_536;

export const rng = defineDevice({
  type: "rng",
  id: 4,
  summary: "Entropy source, fed by the operating system's generator",
  options: Type.Object({}),
  features: {},
  config: layout(Type.Object({})),
  queues: [{ name: "request" }],
  open: () => ({
    config: {},
    device: {
      handle(chain) {
        for (let i = chain.readableCount; i < chain.count; i++) {
          const buffer = chain.buffer(i);
          for (let at = 0; at < buffer.length; at += RANDOM_LIMIT) {
            crypto.getRandomValues(buffer.subarray(at, at + RANDOM_LIMIT));
          }
        }
        return chain.writableBytes;
      },
    },
  }),
});

export default rng;
