/** Features that are not offered: because an operator does not want them, or for lack of others. */
import { has, mask, RingFeature, VhostFeature } from "./features.ts";
import { ProtocolFeature } from "./protocol.ts";

/** Protocol features that are of no use without others. */
export const dependencies: readonly (readonly [feature: number, ...needs: number[]])[] = [
  [ProtocolFeature.INBAND_NOTIFICATIONS, ProtocolFeature.REPLY_ACK, ProtocolFeature.BACKEND_REQ],
  [ProtocolFeature.GET_VRING_BASE_INFLIGHT, ProtocolFeature.INFLIGHT_SHMFD],
  [
    ProtocolFeature.GET_VRING_BASE_SKIP_DRAIN,
    ProtocolFeature.INFLIGHT_SHMFD,
    ProtocolFeature.GET_VRING_BASE_INFLIGHT,
  ],
];

type Names = Readonly<Record<string, number>>;

/** The name of a feature as operators write it: RING_PACKED is `ring-packed`. */
const optionOf = (name: string): string => name.toLowerCase().replaceAll("_", "-");

/**
 * The virtio and the protocol features that `names` mean; one that names a feature of both kinds means
 * both. `device`: the device's own virtio features. Throws RangeError for a name that means none.
 */
export function withheld(
  names: readonly string[],
  device: Names,
): { readonly virtio: bigint; readonly protocol: bigint } {
  const virtio: Names = { ...RingFeature, ...VhostFeature, ...device };
  const bitsOf = (table: Names, wanted: string): number[] =>
    Object.entries(table)
      .filter(([name]) => optionOf(name) === optionOf(wanted))
      .map(([, bit]) => bit);
  const unknown = names.find((name) =>
    [virtio, ProtocolFeature].every((table) => bitsOf(table, name).length === 0),
  );
  if (unknown !== undefined) {
    throw new RangeError(`Cannot do without "${unknown}": there is no such feature`);
  }
  const all = (table: Names) => mask(...names.flatMap((name) => bitsOf(table, name)));
  return { virtio: all(virtio), protocol: all(ProtocolFeature) };
}

/** The protocol features of a set that are of use, given that the others are missing. */
export function usable(protocol: bigint): bigint {
  // Each comes after what it needs.
  return dependencies.reduce(
    (offered, [feature, ...needs]) =>
      needs.every((need) => has(offered, need)) ? offered : offered & ~mask(feature),
    protocol,
  );
}
