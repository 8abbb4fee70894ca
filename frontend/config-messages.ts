/** The messages of the virtio config space (vhost-user: GET_CONFIG, SET_CONFIG). */
import { ConfigHeader } from "../core/payloads.ts";
import { ConfigFlag, frontEndMessages as M } from "../core/protocol.ts";
import type { Connection } from "./connection.ts";
import { BackEndError } from "./errors.ts";

/** Null when the back-end says that the range cannot be read. */
export function readConfig(
  connection: Connection,
  offset: number,
  size: number,
): Uint8Array<ArrayBuffer> | null {
  const request = new Uint8Array(ConfigHeader.size + size);
  ConfigHeader.encode({ offset, size, flags: ConfigFlag.WRITABLE }, request);
  const { payload } = connection.request(M.GET_CONFIG, request);
  if (payload.length === 0) return null;
  const header = ConfigHeader.decode(payload);
  const right = header.offset === offset && header.size === size;
  if (!right || payload.length !== request.length) {
    const message = `GET_CONFIG of ${size} bytes at ${offset} is answered by ${payload.length}`;
    throw new BackEndError("malformed", `${message} bytes for ${header.size} at ${header.offset}`);
  }
  return payload.slice(ConfigHeader.size);
}

export function writeConfig(
  connection: Connection,
  offset: number,
  data: Uint8Array,
  flags: number,
): void {
  const payload = new Uint8Array(ConfigHeader.size + data.length);
  ConfigHeader.encode({ offset, size: data.length, flags }, payload);
  payload.set(data, ConfigHeader.size);
  connection.command(M.SET_CONFIG, payload);
}
