/** Ownership and features (vhost-user: GET_FEATURES to SET_OWNER, protocol features). */
import { ProtocolError } from "../errors.ts";
import { describeBits, has, mask, RingFeature, VhostFeature } from "../features.ts";
import { ProtocolFeature } from "../protocol.ts";
import { RequestChannel } from "../request-channel.ts";
import { dependencies } from "../withheld.ts";
import { type Handler, readU64, u64, WAIT } from "./handler.ts";

function refuseUnoffered(
  wanted: bigint,
  offered: bigint,
  names: Readonly<Record<string, number>>[],
): void {
  const unknown = wanted & ~offered;
  if (unknown !== 0n) {
    throw new ProtocolError(
      `Cannot accept features that were not offered: ${describeBits(unknown, ...names)}`,
    );
  }
}

/**
 * What a front-end may add of its own: QEMU's vhost-user-gpu hands on what its PCI transport and the driver agreed
 * on, RING_RESET too. Resets are then between those two.
 */
const frontEndOnly = mask(RingFeature.RING_RESET);

/** What a running ring is made for: how it is laid out, and what its addresses mean. */
const ringKind = mask(RingFeature.RING_PACKED, RingFeature.ACCESS_PLATFORM);

export const negotiationHandlers = {
  GET_FEATURES: ({ backend }) => u64(backend.offered),

  SET_FEATURES(session, message) {
    const { backend } = session;
    const wanted = readU64(message) & ~(frontEndOnly & ~backend.offered);
    refuseUnoffered(wanted, backend.offered, [backend.featureNames, RingFeature, VhostFeature]);
    const changed = (wanted ^ session.features) & ringKind;
    if (changed !== 0n && session.vrings.some(({ running }) => running)) {
      const names = describeBits(changed, RingFeature);
      throw new ProtocolError(`Cannot change ${names} while vrings are running`);
    }
    const accept = () => {
      session.features = wanted;
      session.forgetDriver();
      // Without protocol features there is no SET_VRING_ENABLE: rings work as soon as they start.
      if (!has(wanted, VhostFeature.PROTOCOL_FEATURES)) session.enableRings();
    };
    backend.log.debug("Features accepted", {
      features: describeBits(wanted, backend.featureNames, RingFeature, VhostFeature),
    });
    // Migration switches LOG_ALL on and off under running rings, which are made for it or not.
    session.whileQuiet(accept, (error) => {
      if (error === undefined) backend.tellDevice((device) => device.negotiated?.(wanted));
      session.answer(message, undefined, error);
    });
    return WAIT;
  },

  /**
   * A driver begins anew: rings, memory and dirty log of an earlier one are gone. QEMU hands the connection of
   * an unplugged device to the one that is plugged in next.
   */
  SET_OWNER(session, message) {
    session.stopRings(() => {
      session.memory[Symbol.dispose]();
      session.dirtyLog.release();
      session.answer(message);
    });
    return WAIT;
  },

  /** Deprecated: front-ends that still send it expect the rings to stop and nothing else. */
  RESET_OWNER(session, message) {
    session.disableRings(() => session.answer(message));
    return WAIT;
  },

  GET_PROTOCOL_FEATURES: ({ backend }) => u64(backend.offeredProtocol),

  SET_PROTOCOL_FEATURES(session, message) {
    const wanted = readU64(message);
    refuseUnoffered(wanted, session.backend.offeredProtocol, [ProtocolFeature]);
    for (const [feature, ...needs] of dependencies) {
      const missing = needs.filter((need) => !has(wanted, need));
      if (has(wanted, feature) && missing.length > 0) {
        const text = `Protocol feature ${feature} needs ${missing.join(" and ")}`;
        throw new ProtocolError(text, { fatal: true });
      }
    }
    for (const draft of session.backend.protocol.drafts) {
      const missing = draft.needs(session.backend.definition).filter((need) => !has(wanted, need));
      if (has(wanted, draft.bit) && missing.length > 0) {
        const text = `Protocol feature ${draft.feature} needs ${missing.join(" and ")}`;
        throw new ProtocolError(text, { fatal: true });
      }
    }
    session.protocolFeatures = wanted;
    session.translation.useGuestAddresses(has(wanted, ProtocolFeature.GPA_ADDRESSES));
    session.inBand = has(wanted, ProtocolFeature.INBAND_NOTIFICATIONS);
    session.backend.log.debug("Protocol features accepted", {
      features: describeBits(wanted, ProtocolFeature),
    });
    return undefined;
  },

  GET_QUEUE_NUM: ({ backend }) => u64(backend.queues.length),

  SET_BACKEND_REQ_FD(session, message) {
    const { loop, log } = session.backend;
    const options = {
      acknowledged: session.hasProtocol(ProtocolFeature.REPLY_ACK),
      descriptors: session.hasProtocol(ProtocolFeature.BACKEND_SEND_FD),
    };
    message.handOver((fd) => {
      const channel = new RequestChannel(fd, loop, log, options);
      session.requests?.[Symbol.dispose]();
      session.requests = channel;
    });
    session.backend.frontEnd.announce(session);
    session.translation.askAgain();
    return undefined;
  },
} satisfies Record<string, Handler>;
