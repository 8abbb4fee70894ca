/** All checks, in the order in which they run. */
import type { Check } from "./check.ts";
import { framing } from "./checks/framing.ts";
import { handshake } from "./checks/handshake.ts";
import { hostile } from "./checks/hostile.ts";
import { memory } from "./checks/memory.ts";
import { negotiation } from "./checks/negotiation.ts";
import { rings } from "./checks/rings.ts";
import { vringInput } from "./checks/vring-input.ts";
import { vrings } from "./checks/vrings.ts";

export const checks: readonly Check[] = [
  ...negotiation,
  ...framing,
  ...handshake,
  ...memory,
  ...vrings,
  ...vringInput,
  ...rings,
  ...hostile,
];
