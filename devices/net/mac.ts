/** MAC addresses as text and as bytes. */
import { MAC_SIZE } from "./wire.ts";

/** Reads `52:54:00:12:34:56`. Throws `Error` for anything that is not the address of one interface. */
export function parseMac(text: string): Uint8Array<ArrayBuffer> {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) {
    throw new Error(`Cannot read "${text}" as a MAC address: write it as 52:54:00:12:34:56`);
  }
  const mac = Uint8Array.from(text.split(/[:-]/), (digits) => Number.parseInt(digits, 16));
  if ((mac[0]! & 1) !== 0 || mac.every((byte) => byte === 0)) {
    throw new Error(`Cannot use "${text}": it is not the address of one interface`);
  }
  return mac;
}

export function formatMac(mac: Uint8Array): string {
  const digits = Array.from(mac.subarray(0, MAC_SIZE), (byte) =>
    byte.toString(16).padStart(2, "0"),
  );
  return digits.join(":");
}
