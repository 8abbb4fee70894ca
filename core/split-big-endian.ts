/**
 * The device side of a split virtqueue whose driver is from before virtio 1.0 and runs on a
 * big-endian machine (virtio 1.3, 2.7.3; vhost-user: SET_VRING_ENDIAN): a split virtqueue that
 * swaps the bytes of each word of its ring.
 */
import type { AddressSpace } from "./address-space.ts";
import type { Chain, HeldChain } from "./chain.ts";
import { BigEndianChain, BigEndianHeldChain } from "./chain-big-endian.ts";
import { badAddress, Descriptor, looped, nestedTable } from "./queue.ts";
import { SplitQueue } from "./split.ts";
import { badNext } from "./split-format.ts";

const { NEXT, WRITE, INDIRECT, ADDRESS_LIMIT } = Descriptor;

function swap16(word: number): number {
  return ((word & 0xff) << 8) | ((word >> 8) & 0xff);
}

/** The result is signed. */
function swap32(word: number): number {
  return (swap16(word) << 16) | swap16(word >>> 16);
}

export class SplitBigEndianQueue extends SplitQueue {
  protected override makeChain(memory: AddressSpace): Chain {
    return new BigEndianChain(this, memory);
  }

  protected override makeHeld(): HeldChain {
    return new BigEndianHeldChain(this, this.chain);
  }

  protected override look(at: number): number {
    return swap16(super.look(at));
  }

  protected override store(at: number, value: number): void {
    super.store(at, swap16(value));
  }

  protected override loadUsedIndex(): number {
    return swap16(super.loadUsedIndex());
  }

  protected override entry(slot: number): number {
    return swap16(super.entry(slot));
  }

  protected override writeElement(slot: number, head: number, written: number): void {
    super.writeElement(slot, swap32(head), swap32(written));
  }

  protected override walkFrom(head: number): void {
    this.chain.setCounts(0, 0, 0, 0);
    this.#walk(this.descriptors, 0, this.size, head);
    this.checkTotal();
  }

  /** Appends the buffers of the descriptors from `first` on, one by one. */
  #walk(table: Int32Array<ArrayBuffer>, base: number, size: number, first: number): void {
    let index = first;
    for (let steps = 0; ; steps++) {
      if (steps === size) throw looped(first, size);
      const at = base + (index << 2);
      // The address's high half comes first here; flags and next come in one word, in this order.
      const high = swap32(table[at]!);
      const low = swap32(table[at + 1]!);
      const length = swap32(table[at + 2]!);
      const link = swap32(table[at + 3]!);
      const flags = link >>> 16;
      if ((flags & INDIRECT) !== 0) {
        if (table !== this.descriptors) throw nestedTable(index);
        const inner = this.openTable(index, low, high, length, flags);
        return this.#walk(inner, this.tableBase, length >>> 4, 0);
      }
      if ((high & ADDRESS_LIMIT) !== 0) throw badAddress(index, low, high);
      this.chain.append(high, low, length, (flags & WRITE) !== 0);
      if ((flags & NEXT) === 0) return;
      index = link & 0xffff;
      if (index >= size) throw badNext((at - base) >> 2, index, size);
    }
  }
}
