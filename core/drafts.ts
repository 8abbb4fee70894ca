/**
 * Proposals that never became part of vhost-user, and whose numbers mean something else now. Each is
 * a small table laid over the main one, and takes away what uses its numbers there.
 */
import type { AnyDevice } from "./device.ts";
import { has } from "./features.ts";
import { type Handler, readU64 } from "./handlers/handler.ts";
import { handlers as mainHandlers } from "./handlers/mod.ts";
import { BackendSpecs } from "./payloads.ts";
import {
  frontEndMessageByCode,
  frontEndMessages,
  type MessageRow,
  ProtocolFeature,
  row,
} from "./protocol.ts";

export interface Draft {
  /** What the proposal called its protocol feature. */
  readonly feature: string;
  readonly bit: number;
  /** Messages that it adds or changes, with what handles them. */
  readonly messages: readonly { readonly row: MessageRow; readonly handler: Handler }[];
  /** Protocol features that it is of no use without. */
  needs(device: AnyDevice): readonly number[];
}

const STANDALONE = 18;
const VHOST_PCI = 4;

export const drafts = {
  /** "docs/interop: add a STANDALONE protocol feature", an RFC for QEMU. */
  standalone: {
    feature: "STANDALONE",
    bit: STANDALONE,
    messages: [
      {
        row: row(41, "GET_BACKEND_SPECS", "none", {
          reply: { payload: "backendSpecs" },
          needs: STANDALONE,
        }),
        handler: ({ backend }) => {
          const { definition, queues } = backend;
          return BackendSpecs.encode({
            deviceId: definition.id,
            configSize: definition.config.size,
            minQueues: definition.minQueues ?? queues.length,
            maxQueues: queues.length,
          });
        },
      },
    ],
    needs: ({ config }) =>
      config.size > 0 ? [ProtocolFeature.STATUS, ProtocolFeature.CONFIG] : [ProtocolFeature.STATUS],
  },

  /** "vhost-user: add VHOST_USER_PROTOCOL_F_VHOST_PCI", for memory shared between guests. */
  "vhost-pci": {
    feature: "VHOST_PCI",
    bit: VHOST_PCI,
    messages: [
      {
        row: frontEndMessages.SET_FEATURES,
        /** What was negotiated goes back to the front-end, which may answer. */
        handler: (session, message) => {
          const outcome = mainHandlers[message.code]!(session, message);
          const features = readU64(message);
          if (has(session.protocolFeatures, VHOST_PCI)) {
            session.backend.loop.defer(() => session.announceFeatures(features));
          }
          return outcome;
        },
      },
    ],
    needs: () => [],
  },
} as const satisfies Record<string, Draft>;

export type DraftName = keyof typeof drafts;

export const draftNames = Object.keys(drafts) as DraftName[];

/** The protocol as a back-end serves it. */
export interface ServedProtocol {
  readonly rows: ReadonlyMap<number, MessageRow>;
  readonly handlers: readonly (Handler | undefined)[];
  readonly drafts: readonly Draft[];
  /** Protocol feature bits that belong to the drafts, and to nothing else. */
  readonly bits: bigint;
}

/** The main table with drafts laid over it. */
export function serveProtocol(names: readonly DraftName[]): ServedProtocol {
  const chosen: readonly Draft[] = names.map((name) => drafts[name]);
  const taken = new Set<number | undefined>(chosen.map(({ bit }) => bit));
  const rows = new Map([...frontEndMessageByCode].filter(([, { needs }]) => !taken.has(needs)));
  const handlers = mainHandlers.map((handler, code) => (rows.has(code) ? handler : undefined));
  for (const message of chosen.flatMap(({ messages }) => messages)) {
    rows.set(message.row.code, message.row);
    handlers[message.row.code] = message.handler;
  }
  const bits = chosen.reduce((sum, { bit }) => sum | (1n << BigInt(bit)), 0n);
  return { rows, handlers, drafts: chosen, bits };
}
