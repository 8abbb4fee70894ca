/** A disk that tells, in its log, how many requests have data in memory that was plugged in. */
import type { Chain } from "../../core/chain.ts";
import blk from "../../devices/blk/mod.ts";

/** Where q35 puts pluggable memory of a machine with less than 2 GiB. */
const PLUGGED = 2 ** 32;
const INTERVAL = 1000;

/** Tells whether the chain has a buffer there, the request's header and status not counted. */
function isPlugged({ space, spans, count }: Chain): boolean {
  for (let i = 1; i < count - 1; i++) {
    if (space.slots[spans[i * 4]!]!.physical + spans[i * 4 + 1]! >= PLUGGED) return true;
  }
  return false;
}

const counting: typeof blk = {
  ...blk,
  async open(options, host) {
    const opened = await blk.open(options, host);
    const { device } = opened;
    const handle = device.handle!.bind(device);
    let count = 0;
    let told = 0;
    device.handle = (chain, queue) => {
      if (isPlugged(chain)) count++;
      return handle(chain, queue);
    };
    host.every(INTERVAL, () => {
      if (count === told) return;
      told = count;
      host.log.debug("Requests with plugged memory", { count });
    });
    return opened;
  },
};

export default counting;
