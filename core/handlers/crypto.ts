/** Sessions of a crypto device (vhost-user: CREATE_CRYPTO_SESSION, CLOSE_CRYPTO_SESSION). */
import type { Message } from "../connection.ts";
import { readCryptoSession } from "../crypto-session.ts";
import { CryptoSession } from "../payloads.ts";
import type { Session } from "../session.ts";
import { type Handler, readU64, WAIT, whenDone } from "./handler.ts";

/** The id of a session that could not be made. */
const NO_SESSION = -1n;

/** The request without its keys, and with the session's id. */
function reply({ payload }: Message, id: number | bigint): Uint8Array {
  const { operation } = CryptoSession.decode(payload);
  return CryptoSession.encode({ operation, sessionId: BigInt.asUintN(64, BigInt(id)) });
}

function refuse({ backend }: Session, message: Message, error: unknown): Uint8Array {
  const reason = error instanceof Error ? error.message : String(error);
  backend.log.warn(`Refused ${message.name}`, { reason });
  return reply(message, NO_SESSION);
}

export const cryptoHandlers = {
  CREATE_CRYPTO_SESSION(session, message) {
    try {
      const request = readCryptoSession(message.payload);
      const made = session.backend.device.createCryptoSession!(request);
      if (!(made instanceof Promise)) return reply(message, made);
      made.then(
        (id) => session.answer(message, reply(message, id)),
        (error) => session.answer(message, refuse(session, message, error)),
      );
      return WAIT;
    } catch (error) {
      return refuse(session, message, error);
    }
  },

  CLOSE_CRYPTO_SESSION(session, message) {
    const closed = session.backend.device.closeCryptoSession!(readU64(message));
    return whenDone(session, message, closed);
  },
} satisfies Record<string, Handler>;
