/** Feature bits by name, as 64-bit masks. Control-plane code. */

/** Device-independent virtio feature bits (virtio 1.3, 6). */
export const RingFeature = {
  NOTIFY_ON_EMPTY: 24,
  ANY_LAYOUT: 27,
  INDIRECT_DESC: 28,
  EVENT_IDX: 29,
  VERSION_1: 32,
  ACCESS_PLATFORM: 33,
  RING_PACKED: 34,
  IN_ORDER: 35,
  ORDER_PLATFORM: 36,
  NOTIFICATION_DATA: 38,
  RING_RESET: 40,
} as const;

/** Bits of the virtio feature space that vhost owns (vhost-user: Starting and stopping rings). */
export const VhostFeature = { LOG_ALL: 26, PROTOCOL_FEATURES: 30 } as const;

/** A mask with the given bits set. */
export function mask(...bits: readonly number[]): bigint {
  return bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
}

/** Tells whether `bit` is set in `features`. */
export function has(features: bigint, bit: number): boolean {
  return ((features >> BigInt(bit)) & 1n) === 1n;
}

/** The bits that are set, ascending. */
export function bitsOf(features: bigint): number[] {
  return Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => has(features, bit));
}

/** Names the bits of a mask, as `FLUSH|MQ|bit 63`. `-` when none is set. */
export function describeBits(
  features: bigint,
  ...names: readonly Readonly<Record<string, number>>[]
): string {
  const known = new Map(
    names.flatMap((table) => Object.entries(table).map(([name, bit]) => [bit, name] as const)),
  );
  return (
    bitsOf(features)
      .map((bit) => known.get(bit) ?? `bit ${bit}`)
      .join("|") || "-"
  );
}
