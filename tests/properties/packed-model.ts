/**
 * A packed virtqueue as virtio 1.3 describes it (2.8), written from its text in terms of lists. Slots
 * are counted from 0 on without an end. Knows nothing of memory, flags or the code under test.
 */
import type { Piece } from "./model.ts";

export interface OfferedChain {
  readonly id: number;
  readonly slots: number;
}

export interface UsedDescriptor {
  readonly id: number;
  readonly length: number;
}

export class PackedModel {
  /** The next slot to be taken, and the next to be used. */
  available: number;
  used: number;
  readonly inOrder: boolean;
  /** Chains made available and not taken, oldest first. */
  readonly waiting: OfferedChain[] = [];
  /** Chains that an earlier back-end had taken, oldest first: they come before all others. */
  readonly replay: OfferedChain[] = [];
  readonly #replayed = new Set<OfferedChain>();
  /** Taken and not shown as used, oldest first. */
  readonly #taken: OfferedChain[] = [];
  /** Taken and not completed, oldest first. */
  readonly inFlight: OfferedChain[] = [];
  /** Completed before an older one, with IN_ORDER. */
  readonly early = new Map<number, number>();
  /** Taken and not used, oldest first. */
  readonly #unused: OfferedChain[] = [];
  readonly #staged: { chain: OfferedChain; length: number }[] = [];
  readonly shown: UsedDescriptor[] = [];

  constructor(start: number, inOrder: boolean) {
    this.available = start;
    this.used = start;
    this.inOrder = inOrder;
  }

  /** The slot up to which the device has used and perhaps not shown. */
  get usedAhead(): number {
    return this.used + this.#staged.reduce((sum, { chain }) => sum + chain.slots, 0);
  }

  take(): OfferedChain | null {
    const again = this.replay.shift();
    const chain = again ?? this.waiting.shift();
    if (chain === undefined) return null;
    if (again === undefined) this.available += chain.slots;
    else this.#replayed.add(again);
    this.#taken.push(chain);
    this.inFlight.push(chain);
    this.#unused.push(chain);
    return chain;
  }

  /** The device takes back that it took its latest chain. */
  putBack(): void {
    const chain = this.inFlight.pop()!;
    this.#unused.splice(this.#unused.indexOf(chain), 1);
    this.#taken.pop();
    if (this.#replayed.delete(chain)) {
      this.replay.unshift(chain);
      return;
    }
    this.waiting.unshift(chain);
    this.available -= chain.slots;
  }

  /** The back-end ends without warning, and the next one knows what was in flight. */
  crash(): void {
    this.replay.unshift(...this.#taken.splice(0));
    this.inFlight.length = 0;
    this.early.clear();
    this.#replayed.clear();
    this.#unused.length = 0;
    this.#staged.length = 0;
  }

  complete(id: number, length: number): void {
    const at = this.inFlight.findIndex((chain) => chain.id === id);
    const [chain] = this.inFlight.splice(at, 1) as [OfferedChain];
    if (!this.inOrder) return this.#use(chain, length);
    this.early.set(id, length);
    while (this.#unused.length > 0) {
      const oldest = this.#unused[0]!;
      const written = this.early.get(oldest.id);
      if (written === undefined) break;
      this.early.delete(oldest.id);
      this.#use(oldest, written);
    }
  }

  #use(chain: OfferedChain, length: number): void {
    this.#unused.splice(this.#unused.indexOf(chain), 1);
    this.#staged.push({ chain, length });
  }

  /** Shows what is staged. Returns the slots that it takes. */
  publish(): number[] {
    const filled: number[] = [];
    for (const { chain, length } of this.#staged.splice(0)) {
      for (let i = 0; i < chain.slots; i++) filled.push(this.used++);
      this.shown.push({ id: chain.id, length });
      this.#taken.splice(this.#taken.indexOf(chain), 1);
    }
    return filled;
  }
}

/** What a side has asked for: flags, and a slot with a wrap counter. */
export interface Wish {
  readonly flags: number;
  readonly slot: number;
  readonly wrap: number;
}

/** Tells whether the other side wants to hear that `filled` slots of a ring changed hands (2.8.10). */
export function wantsPacked(
  filled: readonly number[],
  size: number,
  eventIdx: boolean,
  { flags, slot, wrap }: Wish,
): boolean {
  if (filled.length === 0 || flags % 4 === 1) return false;
  if (flags % 4 !== 2 || !eventIdx) return true;
  return filled.some((at) => at % size === slot && Math.floor(at / size) % 2 !== wrap);
}

/** A descriptor as it stands in a ring or in a table. */
export interface PackedEntry {
  readonly address: bigint;
  readonly length: number;
  readonly id: number;
  readonly flags: number;
}

export interface PackedWalkContext {
  readonly indirect: boolean;
  maps(address: bigint, length: number): boolean;
  /** The entries of an indirect table. */
  table(address: number, count: number): readonly PackedEntry[];
}

const TABLE_LIMIT = 1024;
const ADDRESS_LIMIT = 2n ** 53n;

export interface WalkedChain extends OfferedChain {
  readonly pieces: readonly Piece[];
}

/**
 * The chain in the slot `first` of an endless ring, undefined when none is available there, null when
 * it breaks a rule (2.8.5 to 2.8.7, 2.8.17, 2.8.19). `room` slots are not in use.
 */
export function walkPacked(
  ring: readonly PackedEntry[],
  first: number,
  room: number,
  context: PackedWalkContext,
): WalkedChain | null | undefined {
  const pieces: Piece[] = [];
  const add = ({ address, length, flags }: PackedEntry): boolean => {
    const writable = (flags & 2) !== 0;
    if (address >= ADDRESS_LIMIT || (!writable && pieces.at(-1)?.writable)) return false;
    if (length > 0 && !context.maps(address, length)) return false;
    if (length > 0) pieces.push({ address: Number(address), length, writable });
    return true;
  };
  for (let slot = first; ; slot++) {
    const entry = ring[slot % ring.length]!;
    const { address, length, flags, id } = entry;
    const wrap = Math.floor(slot / ring.length) % 2 === 0;
    const available = ((flags & 0x80) !== 0) === wrap && ((flags & 0x8000) !== 0) !== wrap;
    if (!available) return slot === first ? undefined : null;
    const slots = slot - first + 1;
    if (slots > room) return null;
    const next = (flags & 1) !== 0;
    if ((flags & 4) !== 0) {
      if (!context.indirect || next || slots > 1 || address >= ADDRESS_LIMIT) return null;
      const count = length / 16;
      if (count === 0 || count % 1 !== 0 || count > Math.max(ring.length, TABLE_LIMIT)) return null;
      if (!context.maps(address, length)) return null;
      if (!context.table(Number(address), count).every(add)) return null;
    } else if (!add(entry)) return null;
    if (next) continue;
    const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
    return bytes < 2 ** 32 ? { id, slots, pieces } : null;
  }
}
