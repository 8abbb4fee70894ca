/** What a network device is told (vhost-user: SEND_RARP, NET_SET_MTU). */
import { ProtocolError } from "../errors.ts";
import { type Handler, readU64, whenDone } from "./handler.ts";

const MAC_SIZE = 6;
/** The range of an MTU (virtio 1.3, 5.1.4.1). */
const MTU = { min: 68, max: 65535 } as const;

export const netHandlers = {
  /** The MAC address is in the first six bytes of the u64. */
  SEND_RARP(session, message) {
    const mac = message.payload.slice(0, MAC_SIZE);
    if ((mac[0]! & 1) !== 0 || mac.every((byte) => byte === 0)) {
      const text = Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":");
      throw new ProtocolError(`Cannot announce ${text}: it is not the address of one interface`);
    }
    return whenDone(session, message, session.backend.device.rarp?.(mac));
  },

  NET_SET_MTU(session, message) {
    const mtu = readU64(message);
    if (mtu < MTU.min || mtu > MTU.max) {
      throw new ProtocolError(`Cannot use an MTU of ${mtu}: it must be ${MTU.min} to ${MTU.max}`);
    }
    return whenDone(session, message, session.backend.device.mtu?.(Number(mtu)));
  },
} satisfies Record<string, Handler>;
