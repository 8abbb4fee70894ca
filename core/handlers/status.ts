/** Reset and device status (vhost-user: RESET_DEVICE, SET_STATUS, GET_STATUS). */
import { type Handler, readU64, u64, WAIT } from "./handler.ts";

export const statusHandlers = {
  RESET_DEVICE(session, message) {
    const { backend } = session;
    session.stopRings(() =>
      session.disableRings(() => {
        session.status = 0;
        // A machine that is reset while it migrates gets its log anew before its rings start.
        session.dirtyLog.release();
        backend.tellDevice((device) => device.reset?.());
        session.answer(message);
      }),
    );
    return WAIT;
  },

  /**
   * Status 0 stops the rings and keeps the device's state: QEMU sends it at every `stop` of the
   * virtual machine, with the intention to go on later.
   */
  SET_STATUS(session, message) {
    session.status = Number(readU64(message) & 0xffn);
    if (session.status !== 0) return undefined;
    session.stopRings(() => session.answer(message));
    return WAIT;
  },

  GET_STATUS: ({ status }) => u64(status),
} satisfies Record<string, Handler>;
