/**
 * A split virtqueue as virtio 1.3 describes it (2.7), written from its text in terms of lists. Knows
 * nothing of memory, masks or the code under test.
 */

export interface UsedElement {
  readonly id: number;
  readonly length: number;
}

const after = (index: number) => (index + 1) % 65536;

export class RingModel {
  /** What the next entry to be taken, and the next to be filled, are counted as. */
  availableIndex: number;
  usedIndex: number;
  /** Chains made available and not taken, oldest first. */
  readonly waiting: number[] = [];
  readonly inFlight = new Set<number>();
  /** Completions that the driver cannot see yet, and all that it can see or saw. */
  readonly staged: UsedElement[] = [];
  readonly shown: UsedElement[] = [];
  /** With IN_ORDER, chains that were taken and not used, oldest first, and the lengths of those completed. */
  readonly #order: number[] = [];
  readonly #early = new Map<number, number>();
  readonly #inOrder: boolean;

  constructor(availableIndex: number, usedIndex: number, inOrder = false) {
    this.#inOrder = inOrder;
    this.availableIndex = availableIndex;
    this.usedIndex = usedIndex;
  }

  /** The device takes the oldest chain. */
  take(): number | null {
    const head = this.waiting.shift();
    if (head === undefined) return null;
    this.availableIndex = after(this.availableIndex);
    this.inFlight.add(head);
    this.#order.push(head);
    return head;
  }

  /** The device takes back that it took `head`, its latest. */
  putBack(head: number): void {
    this.inFlight.delete(head);
    this.waiting.unshift(head);
    this.#order.pop();
    this.availableIndex = (this.availableIndex + 65535) % 65536;
  }

  complete(id: number, length: number): void {
    this.inFlight.delete(id);
    if (!this.#inOrder) {
      this.staged.push({ id, length });
      return;
    }
    this.#early.set(id, length);
    while (this.#early.has(this.#order[0]!)) {
      const first = this.#order.shift()!;
      this.staged.push({ id: first, length: this.#early.get(first)! });
      this.#early.delete(first);
    }
  }

  /** Shows what is staged. Returns the indices that were filled. */
  publish(): number[] {
    return this.staged.splice(0).map((element) => {
      const index = this.usedIndex;
      this.shown.push(element);
      this.usedIndex = after(index);
      return index;
    });
  }
}

/**
 * Tells whether the other side wants to hear that the entries at `filled` are new. With EVENT_IDX it
 * names the entry whose filling it waits for (2.7.7, 2.7.10); without, bit 0 of its flags says no.
 */
export function wantsToHear(
  filled: readonly number[],
  eventIdx: boolean,
  { flags, event }: { flags: number; event: number },
): boolean {
  if (filled.length === 0) return false;
  return eventIdx ? filled.includes(event) : flags % 2 === 0;
}

/** A descriptor as it stands in a table; the address may be anything in 64 bits. */
export interface TableEntry {
  readonly address: bigint;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

export interface Piece {
  readonly address: number;
  readonly length: number;
  readonly writable: boolean;
}

export interface WalkContext {
  readonly indirect: boolean;
  maps(address: bigint, length: number): boolean;
  /** The entries of an indirect table. */
  table(address: number, count: number): readonly TableEntry[];
}

/** Limits of the device's own: the longest indirect table on any ring, and where addresses end. */
const TABLE_LIMIT = 1024;
const ADDRESS_LIMIT = 2n ** 53n;

/** The buffers of the chain at `head`, or null when it breaks a rule (2.7.4.2, 2.7.5 to 2.7.5.3). */
export function walk(table: readonly TableEntry[], head: number, context: WalkContext) {
  const pieces: Piece[] = [];
  const follow = (entries: readonly TableEntry[], first: number, outer: boolean): boolean => {
    const visited = new Set<number>();
    for (let i = first; ; i = entries[i]!.next) {
      if (i >= entries.length || visited.has(i)) return false;
      visited.add(i);
      const { address, length, flags } = entries[i]!;
      if (address >= ADDRESS_LIMIT) return false;
      const [hasNext, writable, indirect] = [1, 2, 4].map((bit) => (flags & bit) !== 0);
      if (indirect) {
        const count = length / 16;
        if (!context.indirect || !outer || hasNext || count === 0 || count % 1 !== 0) return false;
        if (count > Math.max(table.length, TABLE_LIMIT) || !context.maps(address, length)) {
          return false;
        }
        return follow(context.table(Number(address), count), 0, false);
      }
      if (!writable && pieces.at(-1)?.writable) return false;
      if (length > 0 && !context.maps(address, length)) return false;
      if (length > 0) pieces.push({ address: Number(address), length, writable: writable! });
      if (!hasNext) return true;
    }
  };
  if (head >= table.length || !follow(table, head, true)) return null;
  // A driver must not chain more than 2^32 bytes (2.7.5.2), and a used length cannot count as many.
  return pieces.reduce((sum, { length }) => sum + length, 0) < 2 ** 32 ? pieces : null;
}
