/** The frame that tells switches where an interface is now (RFC 903; vhost-user: SEND_RARP). */
import { MAC_SIZE } from "./wire.ts";

/** The shortest frame of Ethernet, without its checksum. */
const SIZE = 60;
const ETHERTYPE_RARP = 0x8035;
const ETHERNET = 1;
const IPV4 = 0x0800;
const REQUEST_REVERSE = 3;

/** Asks everybody for the IP address of `mac`; nobody has to answer. */
export function rarpFrame(mac: Uint8Array): Uint8Array {
  const frame = new Uint8Array(SIZE);
  const view = new DataView(frame.buffer);
  frame.fill(0xff, 0, MAC_SIZE);
  frame.set(mac, 6);
  view.setUint16(12, ETHERTYPE_RARP);
  view.setUint16(14, ETHERNET);
  view.setUint16(16, IPV4);
  frame[18] = MAC_SIZE;
  frame[19] = 4;
  view.setUint16(20, REQUEST_REVERSE);
  frame.set(mac, 22);
  frame.set(mac, 32);
  return frame;
}
