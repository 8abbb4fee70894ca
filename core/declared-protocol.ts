/**
 * Parts of the protocol that are a device's business: it declares them, and they are offered when it
 * has what they need.
 */
import type { AnyDevice, Device } from "./device.ts";
import { mask } from "./features.ts";
import { ProtocolFeature } from "./protocol.ts";

type Hook = Extract<keyof Device, string>;

interface Part {
  readonly bit: number;
  /** Members of `Device` that serve the part's messages; none where the device only asks. */
  readonly hooks: readonly Hook[];
}

/** What a device can declare, by name. */
export const declaredParts = {
  RARP: { bit: ProtocolFeature.RARP, hooks: ["rarp"] },
  NET_MTU: { bit: ProtocolFeature.NET_MTU, hooks: ["mtu"] },
  CRYPTO_SESSION: {
    bit: ProtocolFeature.CRYPTO_SESSION,
    hooks: ["createCryptoSession", "closeCryptoSession"],
  },
  HOST_NOTIFIER: { bit: ProtocolFeature.HOST_NOTIFIER, hooks: [] },
  SHARED_OBJECT: { bit: ProtocolFeature.SHARED_OBJECT, hooks: [] },
  DEVICE_STATE: { bit: ProtocolFeature.DEVICE_STATE, hooks: ["save", "load"] },
} as const satisfies Record<string, Part>;

export type DeclaredProtocol = keyof typeof declaredParts;

/** The names of all parts that a declaration asks for; SHMEM follows from `sharedMemory`. */
export function declaredNames({ protocol = [], sharedMemory }: AnyDevice): string[] {
  return [...protocol, ...(sharedMemory === undefined ? [] : ["SHMEM"])];
}

/**
 * The protocol feature bits to offer for an open device. Throws TypeError when the device and its
 * declaration do not fit together.
 */
export function offeredParts(definition: AnyDevice, device: Device): bigint {
  const declared = new Set<string>(definition.protocol);
  const unknown = [...declared].find((name) => !Object.hasOwn(declaredParts, name));
  if (unknown !== undefined) {
    throw new TypeError(`Cannot offer "${unknown}": there is no such part of the protocol`);
  }
  const bits: number[] = definition.sharedMemory === undefined ? [] : [ProtocolFeature.SHMEM];
  for (const [name, part] of Object.entries(declaredParts)) {
    const hooks: readonly Hook[] = part.hooks;
    const present = hooks.filter((hook) => device[hook] !== undefined);
    if (present.length > 0 && (!declared.has(name) || present.length < hooks.length)) {
      const missing = declared.has(name)
        ? `no ${hooks.find((hook) => device[hook] === undefined)}()`
        : `no ${name} in its protocol`;
      throw new TypeError(`Cannot serve a device that has ${present[0]}() and ${missing}`);
    }
    if (declared.has(name) && present.length === hooks.length) bits.push(part.bit);
  }
  return mask(...bits);
}
