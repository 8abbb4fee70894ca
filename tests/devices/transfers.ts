/** Moves bytes between guest memory and a store, through chains cut as one likes. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { Chain, type ChainOwner } from "../../core/chain.ts";
import { ChainTransfer, type Store } from "../../devices/blk/store.ts";
import { TestGuest } from "../core/guest.ts";

export const PAGE = 4096;
export const MIB = 2 ** 20;
export const TMPFS = 0x01021994;

/** Where buffers begin unless a test says otherwise: shortly before the border of two regions. */
export const START = 4 * MIB - 1000;

/** A fresh folder, removed at the end. */
export function useFolder() {
  const folder = mkdtempSync(join(tmpdir(), "ringside-stores-"));
  after(() => rmSync(folder, { recursive: true }));
  return {
    folder,
    /** A tmpfs neither counts holes as disks do nor lets O_DIRECT bypass anything. */
    onTmpfs: statfsSync(folder).type === TMPFS,
    /** Makes a file of so many zeros, or with these contents. */
    makeFile(name: string, content: number | Uint8Array): string {
      const path = join(folder, name);
      writeFileSync(path, typeof content === "number" ? new Uint8Array(0) : content);
      if (typeof content === "number") truncateSync(path, content);
      return path;
    },
  };
}

/** The owner of chains that no queue has made. */
export const nobody: ChainOwner = {
  hold: () => {
    throw new Error("nobody holds");
  },
  completeHeld: () => {},
};

export class Transfers {
  readonly guest = new TestGuest([
    { guestAddress: 0, size: 4 * MIB, at: 4 * MIB },
    { guestAddress: 4 * MIB, size: 4 * MIB, at: 0 },
  ]);
  readonly chain = new Chain(nobody, this.guest.memory);

  /** A transfer over guest memory in pieces of these lengths, one after the other. */
  select(lengths: readonly number[], writable: boolean, at = START): ChainTransfer {
    this.chain.setCounts(0, 0, 0, 0);
    let address = at;
    for (const length of lengths) {
      this.chain.append(Math.floor(address / 2 ** 32), address | 0, length, writable);
      address += length;
    }
    return new ChainTransfer().select(this.chain, 0, address - at, writable);
  }

  /** Returns the store's result. */
  write(store: Store, offset: number, data: Uint8Array, lengths = [data.length], at = START) {
    this.guest.write(at, data);
    return store.write(this.select(lengths, false, at), offset);
  }

  /** Returns the bytes. Fails when the store does. */
  read(store: Store, offset: number, length: number, lengths = [length], at = START): Uint8Array {
    this.guest.fill(at, length, 0xee);
    assert.equal(store.read(this.select(lengths, true, at), offset), 0);
    return this.guest.read(at, length);
  }
}

/** Transfers for the tests of a suite. */
export function useTransfers(): { readonly current: Transfers } {
  let transfers: Transfers;
  before(() => {
    transfers = new Transfers();
  });
  after(() => transfers.guest[Symbol.dispose]());
  return {
    get current() {
      return transfers;
    },
  };
}

/** Lengths that are neither aligned nor like one another. */
export function uneven(total: number): number[] {
  const lengths: number[] = [];
  for (let left = total, i = 1; left > 0; i = (i * 7) % 1021) {
    lengths.push(Math.min(left, i));
    left -= lengths.at(-1)!;
  }
  return lengths;
}
