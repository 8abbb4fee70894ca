/** All checks, in the order in which they run. */
import type { Check } from "./check.ts";
import { blk } from "./checks/blk.ts";
import { configuration } from "./checks/config.ts";
import { deviceChecks } from "./checks/devices.ts";
import { draftChecks } from "./checks/drafts.ts";
import { extensions } from "./checks/extensions.ts";
import { framing } from "./checks/framing.ts";
import { handshake } from "./checks/handshake.ts";
import { hostile } from "./checks/hostile.ts";
import { hostilePacked } from "./checks/hostile-packed.ts";
import { inflight } from "./checks/inflight.ts";
import { inflightReplay } from "./checks/inflight-replay.ts";
import { input } from "./checks/input.ts";
import { iotlb } from "./checks/iotlb.ts";
import { logging } from "./checks/log.ts";
import { memory } from "./checks/memory.ts";
import { mutation } from "./checks/mutation.ts";
import { negotiation } from "./checks/negotiation.ts";
import { net } from "./checks/net.ts";
import { processes } from "./checks/process.ts";
import { reconnection } from "./checks/reconnect.ts";
import { rings } from "./checks/rings.ts";
import { vringInput } from "./checks/vring-input.ts";
import { vrings } from "./checks/vrings.ts";
import { type DeviceKind, deviceKinds } from "./exercises.ts";

/** Checks of one kind of device, by the group that carries its name. */
const ofDevices = {
  blk,
  ...deviceChecks,
  input: [...deviceChecks.input, ...input],
  net: [...deviceChecks.net, ...net],
};

/** All checks. */
export const checks: readonly Check[] = [
  ...negotiation,
  ...framing,
  ...handshake,
  ...memory,
  ...vrings,
  ...vringInput,
  ...rings,
  ...hostile,
  ...hostilePacked,
  ...mutation,
  ...configuration,
  ...reconnection,
  ...inflight,
  ...inflightReplay,
  ...logging,
  ...iotlb,
  ...extensions,
  ...draftChecks,
  ...deviceKinds.flatMap((kind) => ofDevices[kind]),
  ...processes,
];

/** Those that are about a device: all but the ones of other devices. */
export function checksOf(device: DeviceKind | null): readonly Check[] {
  const others = deviceKinds.filter((kind) => kind !== device);
  const foreign = new Set(others.flatMap((kind) => ofDevices[kind]));
  return checks.filter((check) => !foreign.has(check));
}
