/** A Worker that changes fields of guest memory, as fast as it can, while a back-end reads them. */
import { Fd, Mapping } from "../../ffi/mod.ts";
import { Control, type MutatorOrder } from "./mutation.ts";
import { Random } from "./random.ts";

/** Fields changed between two looks at the control word. */
const BURST = 300;

function mutate({ memfd, size, seed, targets, control }: MutatorOrder): number {
  const mapping = new Mapping(new Fd(memfd), size);
  const { data, u8 } = mapping.windows[0]!;
  const words = new Int32Array(u8.buffer);
  const random = new Random(seed);
  let count = 0;
  // A message would not leave this thread before it yields.
  Atomics.store(words, control >> 2, Control.READY);
  for (;;) {
    const order = Atomics.load(words, control >> 2);
    if (order === Control.STOP) break;
    if (order === Control.READY) continue;
    // One field at a time, to and fro, is more likely to change between two reads of it.
    const { at, bytes, values } = random.pick(targets);
    const pair = [random.pick(values), random.pick(values)] as const;
    for (let i = 0; i < BURST; i++, count++) {
      const value = pair[i & 1]!;
      if (bytes === 2) data.setUint16(at, value, true);
      else data.setUint32(at, value, true);
    }
  }
  mapping[Symbol.dispose]();
  return count;
}

self.onmessage = ({ data }: MessageEvent<MutatorOrder>) => {
  self.postMessage(mutate(data));
  self.close();
};
// What is posted before this point may find nobody.
self.postMessage("up");
