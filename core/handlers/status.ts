/** Reset and device status (vhost-user: RESET_DEVICE, SET_STATUS, GET_STATUS). */
import { type Handler, readU64, u64, WAIT } from "./handler.ts";

export const statusHandlers = {
  RESET_DEVICE(session, message) {
    session.stopRings(() => {
      for (const vring of session.vrings) vring.enable(false);
      session.status = 0;
      session.backend.device.reset?.();
      session.answer(message, undefined);
    });
    return WAIT;
  },

  /**
   * Status 0 stops the rings and keeps the device's state: QEMU sends it at every `stop` of the
   * virtual machine, with the intention to go on later.
   */
  SET_STATUS(session, message) {
    session.status = Number(readU64(message) & 0xffn);
    if (session.status !== 0) return undefined;
    session.stopRings(() => session.answer(message, undefined));
    return WAIT;
  },

  GET_STATUS: ({ status }) => u64(status),
} satisfies Record<string, Handler>;
