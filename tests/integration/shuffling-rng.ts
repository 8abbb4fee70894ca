/** An entropy device that answers in any order but the one it was asked in, and says IN_ORDER. */
import { Type } from "typebox";
import { defineDevice, type HeldChain, layout, PENDING } from "../../core/mod.ts";

export default defineDevice({
  type: "rng",
  name: "shuffling-rng",
  id: 4,
  summary: "Entropy source that completes out of order",
  options: Type.Object({}),
  features: {},
  config: layout(Type.Object({})),
  queues: [{ name: "request" }],
  inOrder: true,
  open: () => {
    const held: HeldChain[] = [];
    /** Completes one of them: the youngest, or the oldest now and then. */
    const complete = (all: boolean): void => {
      do {
        const chain = held.length % 3 === 0 ? held.shift() : held.pop();
        chain?.complete(chain.write(new Uint8Array(chain.writableBytes).fill(held.length + 1)));
      } while (all && held.length > 0);
    };
    return {
      config: {},
      device: {
        handle(chain) {
          held.push(chain.hold());
          if (held.length >= 5) complete(false);
          return PENDING;
        },
        flush: () => complete(true),
        stopping: () => complete(true),
      },
    };
  },
});
