/** The virtio config space (vhost-user: GET_CONFIG, SET_CONFIG). */
import type { Message } from "../connection.ts";
import { ProtocolError } from "../errors.ts";
import { ConfigHeader, MAX_CONFIG_SIZE } from "../payloads.ts";
import { ConfigFlag } from "../protocol.ts";
import { type Handler, whenDone } from "./handler.ts";

/** The offset and size of a config message, or null when they do not fit together. */
function readRange({ payload }: Message): { offset: number; size: number; flags: number } | null {
  const header = ConfigHeader.decode(payload);
  const { offset, size } = header;
  const fits = size > 0 && offset + size <= MAX_CONFIG_SIZE;
  return fits && payload.length === ConfigHeader.size + size ? header : null;
}

export const configHandlers = {
  /** A range past the device's config space reads as zeros; a wrong one gets an empty reply. */
  GET_CONFIG(session, message) {
    const range = readRange(message);
    if (range === null) {
      session.backend.log.warn("Refused GET_CONFIG: offset, size and payload do not fit together");
      return new Uint8Array(0);
    }
    const { offset, size } = range;
    const reply = new Uint8Array(ConfigHeader.size + size);
    ConfigHeader.encode(range, reply);
    reply.set(session.backend.readConfig().subarray(offset, offset + size), ConfigHeader.size);
    return reply;
  },

  SET_CONFIG(session, message) {
    const range = readRange(message);
    if (range === null) throw new ProtocolError("offset, size and payload do not fit together");
    const { offset, flags } = range;
    if (flags !== ConfigFlag.WRITABLE && flags !== ConfigFlag.MIGRATION) {
      throw new ProtocolError(`SET_CONFIG has unknown flags ${flags}`);
    }
    const data = message.payload.subarray(ConfigHeader.size);
    const written = session.backend.writeConfig(offset, data, flags === ConfigFlag.MIGRATION);
    return whenDone(session, message, written);
  },
} satisfies Record<string, Handler>;
