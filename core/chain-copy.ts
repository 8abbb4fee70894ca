/** Copies from one chain to another, in one step: from guest to guest, or to and from our own memory. */
import { libc } from "../ffi/mod.ts";
import type { MemoryWindow } from "./address-space.ts";
import type { Chain } from "./chain.ts";

/** Bytes up to which a loop is as fast as a call. A copy between typed arrays would need a view of its source. */
const SHORT = 192;

/** Copies within or between windows. All of both ranges has been checked. */
function copyBlock(
  source: MemoryWindow,
  from: number,
  target: MemoryWindow,
  to: number,
  length: number,
): void {
  if (length > SHORT) {
    libc.memcpy(target.host + to, source.host + from, length);
    return;
  }
  let done = 0;
  if (((from | to) & 3) === 0) {
    const words = length >> 2;
    const reading = source.i32;
    const writing = target.i32;
    const first = from >> 2;
    const second = to >> 2;
    for (let i = 0; i < words; i++) writing[(second + i) | 0] = reading[(first + i) | 0]!;
    done = words << 2;
  }
  const reading = source.u8;
  const writing = target.u8;
  for (; done < length; done++) writing[(to + done) | 0] = reading[(from + done) | 0]!;
}

/**
 * Copies `length` bytes of the device-readable stream of `source`, from offset `from` on, into the
 * device-writable stream of `target`, from offset `to` on, as far as both have them. Returns the
 * bytes copied. Streams that overlap in memory end up with bytes of either.
 */
export function copyChain(
  source: Chain,
  from: number,
  target: Chain,
  to: number,
  length: number,
): number {
  const sources = source.spans;
  const targets = target.spans;
  let s = 0;
  const sEnd = source.readableCount;
  let sAt = from;
  while (s < sEnd && sAt >= sources[(s << 2) + 2]!) sAt -= sources[(s++ << 2) + 2]!;
  let t = target.readableCount;
  const tEnd = target.count;
  let tAt = to;
  while (t < tEnd && tAt >= targets[(t << 2) + 2]!) tAt -= targets[(t++ << 2) + 2]!;
  let left = length;
  while (left > 0 && s < sEnd && t < tEnd) {
    const sSpan = s << 2;
    const tSpan = t << 2;
    const sRoom = sources[sSpan + 2]! - sAt;
    const tRoom = targets[tSpan + 2]! - tAt;
    let size = left;
    if (size > sRoom) size = sRoom;
    if (size > tRoom) size = tRoom;
    copyBlock(
      source.space.slots[sources[sSpan]!]!,
      (sources[sSpan + 1]! + sAt) | 0,
      target.space.slots[targets[tSpan]!]!,
      (targets[tSpan + 1]! + tAt) | 0,
      size,
    );
    left -= size;
    sAt += size;
    tAt += size;
    if (size === sRoom) {
      s++;
      sAt = 0;
    }
    if (size === tRoom) {
      t++;
      tAt = 0;
    }
  }
  return length - left;
}
