/** ARP and ICMP as a guest's stack would send them. */

const concat = (...parts: readonly (readonly number[] | Uint8Array)[]) =>
  Uint8Array.from(parts.flatMap((part) => [...part]));

/** The internet checksum (RFC 1071). */
export function checksum(data: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += i % 2 === 0 ? data[i]! << 8 : data[i]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

const be16 = (value: number) => [value >> 8, value & 0xff];

export interface Endpoint {
  readonly mac: readonly number[];
  readonly ip: readonly number[];
}

export function arpRequest(from: Endpoint, ip: readonly number[]): Uint8Array {
  const all = [255, 255, 255, 255, 255, 255];
  const arp = [0, 1, 8, 0, 6, 4, 0, 1, ...from.mac, ...from.ip, 0, 0, 0, 0, 0, 0, ...ip];
  return concat(all, from.mac, [8, 6], arp);
}

/** The answer to `request`, when that asks for `from`. */
export function arpReply(request: Uint8Array, from: Endpoint): Uint8Array | null {
  const asked = request.subarray(38, 42);
  if (request[12] !== 8 || request[13] !== 6 || !from.ip.every((b, i) => b === asked[i]))
    return null;
  const sender = request.subarray(22, 32);
  const arp = concat([0, 1, 8, 0, 6, 4, 0, 2], from.mac, from.ip, sender);
  return concat(request.subarray(6, 12), from.mac, [8, 6], arp);
}

export function echoRequest(from: Endpoint, to: Endpoint, payload: Uint8Array): Uint8Array {
  const icmp = concat([8, 0, 0, 0, 0x12, 0x34, 0, 1], payload);
  icmp.set(be16(checksum(icmp)), 2);
  const length = be16(20 + icmp.length);
  const ip = Uint8Array.from([0x45, 0, ...length, 0, 1, 0, 0, 64, 1, 0, 0, ...from.ip, ...to.ip]);
  ip.set(be16(checksum(ip)), 10);
  return concat(to.mac, from.mac, [8, 0], ip, icmp);
}

/** DHCPDISCOVER (RFC 2131). */
export function dhcpDiscover(mac: readonly number[]): Uint8Array {
  const bootp = new Uint8Array(300);
  bootp.set([1, 1, 6, 0, 0x39, 3, 0xf3, 0x26]);
  bootp.set(mac, 28);
  bootp.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255], 236);
  const udp = concat([0, 68, 0, 67, ...be16(8 + bootp.length), 0, 0], bootp);
  const all = [255, 255, 255, 255];
  const length = be16(20 + udp.length);
  const ip = Uint8Array.from([0x45, 0, ...length, 0, 1, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, ...all]);
  ip.set(be16(checksum(ip)), 10);
  return concat([...all, 255, 255], mac, [8, 0], ip, udp);
}
