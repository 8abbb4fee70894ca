/** Work on frames that one side leaves to the other: checksums, and cutting large packets. */
import { has, mask } from "../../core/features.ts";
import { Gso, NetFeature, type NetFeatureName } from "./wire.ts";

/** What one side takes from the other. */
export class Offloads {
  readonly csum: boolean;
  readonly tso4: boolean;
  readonly tso6: boolean;
  readonly ecn: boolean;
  readonly ufo: boolean;
  readonly uso4: boolean;
  readonly uso6: boolean;
  /** 1 for each kind of packet that may come uncut, by its `gsoType`. */
  readonly #gso = new Uint8Array(256);

  constructor(accepted: (name: OffloadName) => boolean) {
    this.csum = accepted("CSUM");
    this.tso4 = accepted("TSO4");
    this.tso6 = accepted("TSO6");
    this.ecn = accepted("ECN");
    this.ufo = accepted("UFO");
    this.uso4 = accepted("USO4");
    this.uso6 = accepted("USO6");
    const allow = (type: number, ecn = false) => {
      this.#gso[type] = 1;
      if (ecn && this.ecn) this.#gso[type | Gso.ECN] = 1;
    };
    if (this.tso4) allow(Gso.TCPV4, true);
    if (this.tso6) allow(Gso.TCPV6, true);
    if (this.ufo) allow(Gso.UDP);
    if (this.uso4 && this.uso6) allow(Gso.UDP_L4);
  }

  /** Whether packets of this type, which is not NONE, may come uncut. */
  accepts(gsoType: number): boolean {
    return this.#gso[gsoType] === 1;
  }
}

type OffloadName = "CSUM" | "TSO4" | "TSO6" | "ECN" | "UFO" | "USO4" | "USO6";

export const noOffloads = new Offloads(() => false);
/** What a tap may say of a frame. */
export const anyOffloads = new Offloads(() => true);

const hostFeatures: Readonly<Record<OffloadName, number>> = {
  CSUM: NetFeature.CSUM,
  TSO4: NetFeature.HOST_TSO4,
  TSO6: NetFeature.HOST_TSO6,
  ECN: NetFeature.HOST_ECN,
  UFO: NetFeature.HOST_UFO,
  USO4: NetFeature.HOST_USO,
  USO6: NetFeature.HOST_USO,
};

const guestFeatures: Readonly<Record<OffloadName, number>> = {
  CSUM: NetFeature.GUEST_CSUM,
  TSO4: NetFeature.GUEST_TSO4,
  TSO6: NetFeature.GUEST_TSO6,
  ECN: NetFeature.GUEST_ECN,
  UFO: NetFeature.GUEST_UFO,
  USO4: NetFeature.GUEST_USO4,
  USO6: NetFeature.GUEST_USO6,
};

/** What the guest may leave to us. */
export const hostOffloads = (features: bigint): Offloads =>
  new Offloads((name) => has(features, hostFeatures[name]));

/** What we may leave to the guest. */
export const guestOffloads = (features: bigint): Offloads =>
  new Offloads((name) => has(features, guestFeatures[name]));

/** Bits that GUEST_OFFLOADS can switch (virtio 1.3, 5.1.6.5.6). */
export const guestOffloadBits: bigint = mask(...Object.values(guestFeatures));

/** All features for a host side that passes headers on. */
export const allOffloads: readonly NetFeatureName[] = [
  "CSUM",
  "GUEST_CSUM",
  "GUEST_TSO4",
  "GUEST_TSO6",
  "GUEST_ECN",
  "GUEST_UFO",
  "GUEST_USO4",
  "GUEST_USO6",
  "HOST_TSO4",
  "HOST_TSO6",
  "HOST_ECN",
  "HOST_UFO",
  "HOST_USO",
];
