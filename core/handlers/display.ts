/** Where a graphics device shows what it draws (vhost-user-gpu: GPU_SET_SOCKET). */
import { socketKind } from "../../ffi/mod.ts";
import { ProtocolError } from "../errors.ts";
import type { Handler } from "./handler.ts";

export const displayHandlers = {
  GPU_SET_SOCKET(session, message) {
    const { device } = session.backend;
    if (device.displaySocket === undefined) {
      throw new ProtocolError("GPU_SET_SOCKET is not supported: the device shows nothing");
    }
    message.handOver((fd) => {
      if (socketKind(fd) !== "connected") {
        throw new ProtocolError("GPU_SET_SOCKET carries no connected unix socket");
      }
      device.displaySocket!(fd);
    });
    return undefined;
  },
} satisfies Record<string, Handler>;
