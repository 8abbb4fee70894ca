/** An entropy source (virtio 1.3, 5.4): fills what the driver offers with random bytes. */
import { defineDevice, layout, Type } from "../../core/mod.ts";

/** `crypto.getRandomValues` fills at most this many bytes per call. */
const CALL_LIMIT = 65_536;
/** Bytes per request. A driver that asks for more gets less, which it must expect. */
const REQUEST_LIMIT = 16 * CALL_LIMIT;

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
        const wanted = Math.min(chain.writableBytes, REQUEST_LIMIT);
        let left = wanted;
        for (let i = 0; left > 0; i++) {
          const buffer = chain.writable(i).subarray(0, left);
          for (let at = 0; at < buffer.length; at += CALL_LIMIT) {
            crypto.getRandomValues(buffer.subarray(at, at + CALL_LIMIT));
          }
          left -= buffer.length;
        }
        return wanted;
      },
    },
  }),
});

export default rng;
