/** Postcopy migration (vhost-user: POSTCOPY_ADVISE, POSTCOPY_LISTEN, POSTCOPY_END). */
import { ProtocolError } from "../errors.ts";
import { Postcopy } from "../postcopy.ts";
import type { Session } from "../session.ts";
import { type Handler, u64 } from "./handler.ts";

const nothing = new Uint8Array(0);

function advised({ postcopy }: Session): Postcopy {
  if (postcopy !== null) return postcopy;
  throw new ProtocolError("there was no POSTCOPY_ADVISE");
}

export const postcopyHandlers = {
  /** The reply has a userfaultfd, or none when there cannot be one. */
  POSTCOPY_ADVISE(session) {
    try {
      if (session.postcopy !== null) throw new ProtocolError("it came before");
      session.postcopy = new Postcopy(session.memory, session.socket);
    } catch (error) {
      const { log } = session.backend;
      log.warn("Refused POSTCOPY_ADVISE", { reason: (error as Error).message });
      return nothing;
    }
    return { payload: nothing, fds: [session.postcopy.fd.number] };
  },

  /** QEMU waits for the acknowledgement whether REPLY_ACK is negotiated or not. */
  POSTCOPY_LISTEN(session, { needReply }) {
    advised(session).listen();
    session.backend.log.info("Guest memory comes by postcopy");
    return needReply ? u64(0) : undefined;
  },

  POSTCOPY_END(session) {
    advised(session)[Symbol.dispose]();
    session.postcopy = null;
    session.backend.log.info("Guest memory has come");
    return u64(0);
  },
} satisfies Record<string, Handler>;
