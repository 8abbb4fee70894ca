/** `--print-capabilities` (vhost-user.json, VHostUserBackendCapabilities). */
import { type Static, Type } from "typebox";
import { declaredNames } from "../core/declared-protocol.ts";
import type { AnyDevice } from "../core/device.ts";
import { optionRows } from "./options.ts";

/** What a back-end program prints about itself. */
export const capabilitiesSchema = Type.Object({
  /** The device's type, as `block`. */
  type: Type.String(),
  /** Optional command-line options that the program knows, as `read-only`. */
  features: Type.Array(Type.String()),
  /** Optional parts of the protocol that the device declares; not of vhost-user.json. */
  protocol: Type.Optional(Type.Array(Type.String())),
});

export type Capabilities = Static<typeof capabilitiesSchema>;

/**
 * A device's capabilities. A name in `capabilities` that is no option is not a capability, nor is one whose
 * probe fails: `works` is asked about those.
 */
export function capabilitiesOf(
  device: AnyDevice,
  works: (name: string) => boolean = () => false,
): Capabilities {
  const names = new Set(optionRows(device.options).map(({ name }) => name));
  const probes = device.probes ?? {};
  const isThere = (name: string): boolean => !Object.hasOwn(probes, name) || works(name);
  const features = (device.capabilities ?? []).filter((name) => names.has(name) && isThere(name));
  const protocol = declaredNames(device);
  return { type: device.type, features, ...(protocol.length > 0 ? { protocol } : {}) };
}
