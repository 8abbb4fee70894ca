/** The two loops that bench/ring.ts measures; `ring_drain` of bench/c/ring.c does the same. */
import type { Chain } from "../../core/chain.ts";
import type { Queue } from "../../core/queue.ts";
import { CAPACITY } from "./ring-fixture.ts";

/** The least a block device does with a request: read the header, check the range, set the status. */
function handle(chain: Chain): number {
  if (chain.readableBytes < 16 || chain.writableBytes < 1) throw new Error("a short request");
  const type = chain.readU32(0);
  const offset = chain.readU64(8) * 512;
  const length = chain.writableBytes - 1;
  if (type !== 0 || offset > CAPACITY || length > CAPACITY - offset) throw new Error("a bad range");
  chain.writeLastU8(0);
  return chain.writableBytes;
}

/** Returns everything that is available without a look at it. */
export function walk(queue: Queue): number {
  const chain = queue.chain;
  let done = 0;
  for (;;) {
    if (!queue.next()) {
      queue.publish();
      if (!queue.requestKick()) return done;
      continue;
    }
    queue.complete(chain.head, chain.writableBytes);
    done++;
  }
}

/** Serves everything that is available as a block device would, except for the data. */
export function serve(queue: Queue): number {
  const chain = queue.chain;
  let done = 0;
  for (;;) {
    if (!queue.next()) {
      queue.publish();
      if (!queue.requestKick()) return done;
      continue;
    }
    queue.complete(chain.head, handle(chain));
    done++;
  }
}
