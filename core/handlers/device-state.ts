/** Device state of a migration (vhost-user: SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE). */
import { StateTransfer } from "../device-state.ts";
import { ProtocolError } from "../errors.ts";
import { DeviceState } from "../payloads.ts";
import { StateReply } from "../protocol.ts";
import { type Handler, u64, WAIT } from "./handler.ts";

const directions = ["save", "load"] as const;
/** The only phase there is: the device is stopped. */
const STOPPED = 0;

export const deviceStateHandlers = {
  SET_DEVICE_STATE_FD(session, message) {
    const { direction: code, phase } = DeviceState.decode(message.payload);
    const direction = directions[code];
    if (direction === undefined) {
      throw new ProtocolError(`There is no direction ${code} of a state transfer`);
    }
    if (phase !== STOPPED) throw new ProtocolError(`There is no phase ${phase} of a migration`);
    const stopped = () => session.vrings.every((vring) => vring.stopped);
    if (!stopped()) throw new ProtocolError("Cannot transfer state while a vring is started");
    if (session.transfer !== null && !session.transfer.done) {
      throw new ProtocolError("Cannot transfer state: another transfer is under way");
    }
    const { loop, device } = session.backend;
    message.handOver((fd) => {
      session.transfer = new StateTransfer(fd, direction, { loop, device, stopped });
    });
    return u64(StateReply.NO_FD);
  },

  CHECK_DEVICE_STATE(session, message) {
    if (session.transfer === null) throw new ProtocolError("there was no transfer");
    session.transfer.whenDone((error) => {
      if (error === null) session.answer(message, u64(0));
      else session.answer(message, undefined, error);
    });
    return WAIT;
  },
} satisfies Record<string, Handler>;
