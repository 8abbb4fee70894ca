/** What lets a device go on elsewhere: the dirty log and in-flight regions. */
import type { Message } from "../connection.ts";
import { ProtocolError } from "../errors.ts";
import { has, RingFeature } from "../features.ts";
import { createInflight, InflightRegion, type InflightShape } from "../inflight.ts";
import { Inflight, LogArea } from "../payloads.ts";
import { MAX_QUEUE_SIZE } from "../protocol.ts";
import type { Session } from "../session.ts";
import { type Handler, toNumber, u64, WAIT } from "./handler.ts";

function readShape(session: Session, { payload }: Message): InflightShape {
  const wire = Inflight.decode(payload);
  const most = session.backend.queues.length;
  if (wire.queues === 0 || wire.queues > most) {
    throw new ProtocolError(
      `Cannot use an in-flight region of ${wire.queues} queues, not 1 to ${most}`,
    );
  }
  if (wire.queueSize === 0 || wire.queueSize > MAX_QUEUE_SIZE) {
    throw new ProtocolError(`Cannot use an in-flight region for queues of ${wire.queueSize}`);
  }
  return {
    size: toNumber(wire.size, "size of an in-flight region"),
    offset: toNumber(wire.offset, "offset of an in-flight region"),
    queues: wire.queues,
    queueSize: wire.queueSize,
  };
}

const isPacked = ({ features }: Session) => has(features, RingFeature.RING_PACKED);

export const migrationHandlers = {
  SET_LOG_BASE(session, message) {
    const area = LogArea.decode(message.payload);
    const size = toNumber(area.size, "size of a dirty log");
    const offset = toNumber(area.offset, "offset of a dirty log");
    message.handOver((fd) => {
      session.dirtyLog.replace(fd, offset, size);
      fd.close();
    });
    return u64(0);
  },

  SET_LOG_FD(session, message) {
    message.handOver((fd) => session.dirtyLog.signal.replace(fd));
    return undefined;
  },

  /** The region comes back with SET_INFLIGHT_FD, now and after each reconnection. */
  GET_INFLIGHT_FD(session, message) {
    const { queues, queueSize } = readShape(session, message);
    const { fd, shape } = createInflight(queues, queueSize, isPacked(session));
    // Closed with the message, when the reply is on its way.
    message.fds.push(fd);
    const payload = Inflight.encode({
      size: BigInt(shape.size),
      offset: 0n,
      queues,
      queueSize,
      padding: 0,
    });
    return { payload, fds: [fd.number] };
  },

  SET_INFLIGHT_FD(session, message) {
    const shape = readShape(session, message);
    let region: InflightRegion;
    message.handOver((fd) => {
      region = new InflightRegion(fd, shape, isPacked(session));
      fd.close();
    });
    session.whileQuiet(
      () => {
        session.inflight?.[Symbol.dispose]();
        session.inflight = region;
      },
      (error) => session.answer(message, undefined, error),
    );
    return WAIT;
  },
} satisfies Record<string, Handler>;
