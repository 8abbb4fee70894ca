/** Handlers of the front-end's messages, by code. A message without one is refused. */
import type { Message } from "../connection.ts";
import { type FrontEndMessage, frontEndMessages } from "../protocol.ts";
import type { Session } from "../session.ts";
import { configHandlers } from "./config.ts";
import { cryptoHandlers } from "./crypto.ts";
import { deviceStateHandlers } from "./device-state.ts";
import { displayHandlers } from "./display.ts";
import { type Handler, type Outcome, SILENT, WAIT } from "./handler.ts";
import { iotlbHandlers } from "./iotlb.ts";
import { memoryHandlers } from "./memory.ts";
import { migrationHandlers } from "./migration.ts";
import { negotiationHandlers } from "./negotiation.ts";
import { netHandlers } from "./net.ts";
import { postcopyHandlers } from "./postcopy.ts";
import { sharingHandlers } from "./sharing.ts";
import { statusHandlers } from "./status.ts";
import { vringHandlers } from "./vrings.ts";

export { type Handler, type Outcome, SILENT, WAIT };

const byName: Partial<Record<FrontEndMessage, Handler>> = {
  ...negotiationHandlers,
  ...memoryHandlers,
  ...vringHandlers,
  ...configHandlers,
  ...statusHandlers,
  ...migrationHandlers,
  ...netHandlers,
  ...cryptoHandlers,
  ...deviceStateHandlers,
  ...displayHandlers,
  ...sharingHandlers,
  ...postcopyHandlers,
  ...iotlbHandlers,
};

/** `handlers[code](session, message)`. */
export const handlers: readonly (Handler | undefined)[] = Object.values(frontEndMessages).reduce(
  (table, { name, code }) => {
    table[code] = byName[name as FrontEndMessage];
    return table;
  },
  [] as (Handler | undefined)[],
);

export type { Message, Session };
