/** All checks, in the order in which they run. */
import type { Check } from "./check.ts";
import { framing } from "./checks/framing.ts";
import { handshake } from "./checks/handshake.ts";
import { negotiation } from "./checks/negotiation.ts";
import { rings } from "./checks/rings.ts";

export const checks: readonly Check[] = [...negotiation, ...framing, ...handshake, ...rings];
