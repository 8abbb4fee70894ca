/** What the front-end says about I/O addresses (vhost-user: IOMMU support, IOTLB_MSG). */
import type { Message } from "../connection.ts";
import { ProtocolError } from "../errors.ts";
import { has, RingFeature } from "../features.ts";
import { hex } from "../hex.ts";
import { accessOf, type Piece } from "../iotlb.ts";
import { Iotlb } from "../payloads.ts";
import { IotlbMessage } from "../protocol.ts";
import type { Session } from "../session.ts";
import { type Handler, toNumber, u64, WAIT } from "./handler.ts";

const OK = u64(0);
/** Where addresses end. What devices can use ends long before. */
const ADDRESS_END = 2n ** 64n;

/** Replies once no chain in flight uses what the front-end takes away. */
function whileUnused(
  session: Session,
  message: Message,
  start: number,
  end: number,
  change: () => readonly Piece[] | null,
): Uint8Array | typeof WAIT {
  // Taken away at once, so that no new chain uses it. Those in flight know their memory already.
  const pieces = change();
  const rings = session.vrings.filter((vring) => vring.uses(start, end, pieces));
  if (rings.length === 0) return OK;
  session.whileQuiet(
    () => {},
    () => session.answer(message, OK),
    rings,
  );
  return WAIT;
}

function update(session: Session, message: Message): Uint8Array | typeof WAIT {
  const wire = Iotlb.decode(message.payload);
  const start = toNumber(wire.iova, "I/O address");
  const size = toNumber(wire.size, "size");
  const target = toNumber(wire.userAddress, "address");
  const access = accessOf(wire.permission);
  const { translation } = session;
  const { iotlb } = translation;
  const text = `Cannot use an IOTLB entry of ${hex(size)} bytes from ${hex(start)} to ${hex(target)}`;
  if (access === 0) throw new ProtocolError(`${text} with permission ${wire.permission}`);
  const sums = [start + size, target + size];
  if (size === 0 || !sums.every(Number.isSafeInteger)) throw new ProtocolError(text);
  if (!iotlb.reaches(target, size)) {
    throw new ProtocolError(`${text}: that is not in the memory regions`);
  }
  const enter = () => translation.update(start, size, target, access);
  if (!iotlb.contradicts(start, size, target, access)) {
    enter();
    return OK;
  }
  const end = start + size;
  return whileUnused(session, message, start, end, () => {
    const pieces = iotlb.remove(start, end);
    enter();
    return pieces;
  });
}

function invalidate(session: Session, message: Message): Uint8Array | typeof WAIT {
  const { iova, size } = Iotlb.decode(message.payload);
  // All 2^64 addresses do not fit the size.
  const length = iova === 0n && size === 0n ? ADDRESS_END : size;
  if (length === 0n || iova + length > ADDRESS_END) {
    const text = `${length} bytes from 0x${iova.toString(16)}`;
    throw new ProtocolError(`Cannot invalidate the translation of ${text}`);
  }
  // Inexact above 2^53, where no entry is.
  const [start, end] = [Number(iova), Number(iova + length)];
  const { iotlb } = session.translation;
  return whileUnused(session, message, start, end, () => iotlb.remove(start, end));
}

export const iotlbHandlers = {
  IOTLB_MSG(session, message) {
    if (!has(session.features, RingFeature.ACCESS_PLATFORM)) {
      throw new ProtocolError("IOTLB_MSG needs ACCESS_PLATFORM");
    }
    const { type } = Iotlb.decode(message.payload);
    if (type === IotlbMessage.UPDATE) return update(session, message);
    if (type === IotlbMessage.INVALIDATE) return invalidate(session, message);
    throw new ProtocolError(`Cannot use an IOTLB message of type ${type}`);
  },
} satisfies Record<string, Handler>;
