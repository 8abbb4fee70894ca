/** Setting up, starting and stopping vrings (vhost-user: Starting and stopping rings). */
import type { Fd } from "../../ffi/mod.ts";
import type { Message } from "../connection.ts";
import { ProtocolError } from "../errors.ts";
import { has, RingFeature } from "../features.ts";
import { VringAddr, VringState } from "../payloads.ts";
import { VRING_INDEX_MASK, VRING_LOG, VRING_NO_FD } from "../protocol.ts";
import type { Session } from "../session.ts";
import type { Vring } from "../vring.ts";
import { type Handler, readU64, toNumber, WAIT } from "./handler.ts";

function readState(session: Session, message: Message): { vring: Vring; num: number } {
  const { index, num } = VringState.decode(message.payload);
  return { vring: session.vring(index), num };
}

/** Hands the descriptor of SET_VRING_KICK, CALL or ERR over, or null when the message has none. */
function giveDescriptor(
  session: Session,
  message: Message,
  receive: (vring: Vring, fd: Fd | null) => void,
): undefined {
  const value = Number(readU64(message) & 0x1ffn);
  const vring = session.vring(value & VRING_INDEX_MASK);
  const without = (value & VRING_NO_FD) !== 0;
  if (without !== (message.fds.length === 0)) {
    throw new ProtocolError(
      `${message.name} ${without ? "says that no descriptor comes, with one" : "has none"}`,
    );
  }
  if (without) receive(vring, null);
  else message.handOver((fd) => receive(vring, fd));
  return undefined;
}

export const vringHandlers = {
  SET_VRING_NUM(session, message) {
    const { vring, num } = readState(session, message);
    vring.setSize(num);
    return undefined;
  },

  SET_VRING_BASE(session, message) {
    const { vring, num } = readState(session, message);
    vring.setBase(num);
    return undefined;
  },

  SET_VRING_ADDR(session, message) {
    const wire = VringAddr.decode(message.payload);
    const logged = (wire.flags & VRING_LOG) !== 0;
    const addresses = {
      descriptor: toNumber(wire.descriptor, "descriptor table address"),
      available: toNumber(wire.available, "available ring address"),
      used: toNumber(wire.used, "used ring address"),
      log: logged ? toNumber(wire.log, "log address") : null,
    };
    session.vring(wire.index).setAddresses(addresses, () => session.answer(message));
    return WAIT;
  },

  GET_VRING_BASE(session, message) {
    const { vring } = readState(session, message);
    vring.stop((num) => {
      session.forgetDriver();
      session.answer(message, VringState.encode({ index: vring.index, num }));
    });
    return WAIT;
  },

  /** Requests in flight stay recorded in the region of SET_INFLIGHT_FD, for whoever goes on. */
  GET_VRING_BASE_SKIP_DRAIN(session, message) {
    const { vring } = readState(session, message);
    if (session.inflight === null) {
      throw new ProtocolError(
        "Cannot stop a vring without draining it: no in-flight region is set",
      );
    }
    const num = vring.stopAtOnce();
    session.forgetDriver();
    return VringState.encode({ index: vring.index, num });
  },

  SET_VRING_KICK: (session, message) =>
    giveDescriptor(session, message, (vring, fd) => vring.setKick(fd)),

  /** The byte order of a ring whose driver is from before virtio 1. */
  SET_VRING_ENDIAN(session, message) {
    const { vring, num } = readState(session, message);
    if (num > 1) throw new ProtocolError(`There is no byte order ${num} of a vring`);
    if (num === 1 && has(session.features, RingFeature.VERSION_1)) {
      throw new ProtocolError("Cannot use a big-endian vring: VERSION_1 is negotiated");
    }
    vring.setBigEndian(num === 1);
    return undefined;
  },

  VRING_KICK(session, message) {
    const { vring, num } = readState(session, message);
    if (num !== 0) throw new ProtocolError(`VRING_KICK has ${num} where 0 belongs`);
    vring.kickInBand();
    return undefined;
  },

  SET_VRING_CALL: (session, message) =>
    giveDescriptor(session, message, (vring, fd) => vring.setCall(fd)),

  SET_VRING_ERR: (session, message) =>
    giveDescriptor(session, message, (vring, fd) => vring.setErr(fd)),

  SET_VRING_ENABLE(session, message) {
    const { vring, num } = readState(session, message);
    if (num > 1) throw new ProtocolError(`Cannot set a vring's enable flag to ${num}`);
    if (num === 1) {
      vring.enable();
      return undefined;
    }
    vring.disable(() => session.answer(message));
    return WAIT;
  },
} satisfies Record<string, Handler>;
