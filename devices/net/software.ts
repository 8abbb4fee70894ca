/**
 * What a frame's header leaves to be done, done here: for a guest that takes no open checksums or no
 * uncut packets, and gets them from one that sends them. The slow way: it copies.
 */
import { HostChain } from "../../core/host-chain.ts";
import { Frame } from "./frame.ts";
import { ETHERNET_HEADER, Gso, MAX_FRAME, VLAN_TAG } from "./wire.ts";

const ETHERTYPE_VLAN = 0x8100;
const TCP = 6;
const UDP = 17;
/** Where a header has its checksum. */
const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const TCP_HEADER = 20;
const UDP_HEADER = 8;
const FIN_PSH = 0x09;
const CWR = 0x80;
/** What UDP has in place of 0, which says that there is no checksum. */
const ZERO_CHECKSUM = 0xffff;

/** Where the parts of an uncut packet begin. */
interface Packet {
  readonly ip: number;
  readonly transport: number;
  readonly data: number;
  readonly v4: boolean;
  readonly udp: boolean;
}

/** Adds 16-bit numbers in network order. */
function sum(view: DataView, from: number, to: number, start = 0): number {
  let total = start;
  let at = from;
  for (; at + 1 < to; at += 2) total += view.getUint16(at);
  return at < to ? total + (view.getUint8(at) << 8) : total;
}

/** The internet checksum of a sum (RFC 1071). */
function fold(total: number): number {
  let rest = total;
  while (rest > 0xffff) rest = (rest & 0xffff) + Math.floor(rest / 0x10000);
  return ~rest & 0xffff;
}

export class Software {
  readonly #input = new HostChain(MAX_FRAME);
  readonly #output = new HostChain(MAX_FRAME);
  readonly #in = new DataView(this.#input.bytes.buffer);
  readonly #out = new DataView(this.#output.bytes.buffer);
  readonly #frame = new Frame();

  /**
   * Hands what a frame becomes to `deliver`, until that takes no more. False when it cannot be done: the
   * packet is of another kind, or its headers make no sense.
   */
  finish(frame: Frame, deliver: (frame: Frame) => boolean): boolean {
    frame.chain.read(this.#input.bytes.subarray(0, frame.length), frame.at);
    if (frame.gsoType === Gso.NONE) {
      this.#fillChecksum(frame);
      this.#input.select(0, frame.length);
      this.#frame.plain(this.#input, 0, frame.length);
      deliver(this.#frame);
      return true;
    }
    const packet = this.#examine(frame);
    if (packet === null) return false;
    this.#segment(frame, packet, deliver);
    return true;
  }

  #fillChecksum({ csumStart, csumOffset, length }: Frame): void {
    const value = fold(sum(this.#in, csumStart, length));
    const written = value === 0 && csumOffset === UDP_CHECKSUM ? ZERO_CHECKSUM : value;
    this.#in.setUint16(csumStart + csumOffset, written);
  }

  /** Finds the headers of an uncut packet. Null when they do not fit what the frame says. */
  #examine({ length, gsoType, csumStart: transport }: Frame): Packet | null {
    const input = this.#in;
    const type = gsoType & ~Gso.ECN;
    const udp = type === Gso.UDP_L4;
    if (!udp && type !== Gso.TCPV4 && type !== Gso.TCPV6) return null;
    const tagged = input.getUint16(ETHERNET_HEADER - 2) === ETHERTYPE_VLAN;
    const ip = ETHERNET_HEADER + (tagged ? VLAN_TAG : 0);
    const shortest = udp ? UDP_HEADER : TCP_HEADER;
    if (transport < ip + IPV4_HEADER || transport + shortest > length) return null;
    const version = input.getUint8(ip) >> 4;
    const v4 = version === 4;
    if (!v4 && version !== 6) return null;
    if (!udp && v4 !== (type === Gso.TCPV4)) return null;
    // Without extension headers, of which there are hardly any.
    const size = v4 ? (input.getUint8(ip) & 15) * 4 : IPV6_HEADER;
    const protocol = udp ? UDP : TCP;
    if (transport !== ip + size || input.getUint8(ip + (v4 ? 9 : 6)) !== protocol) return null;
    const own = udp ? UDP_HEADER : (input.getUint8(transport + 12) >> 4) * 4;
    const data = transport + own;
    if (own < shortest || data >= length) return null;
    return { ip, transport, data, v4, udp };
  }

  /** Cuts a packet into ones with `gsoSize` bytes of data each, which may be as few as the sender likes. */
  #segment({ length, gsoSize }: Frame, packet: Packet, deliver: (frame: Frame) => boolean): void {
    const { data, transport, udp } = packet;
    const headers = this.#input.bytes.subarray(0, data);
    for (let at = data, index = 0; at < length; at += gsoSize, index++) {
      const size = Math.min(gsoSize, length - at);
      const end = data + size;
      this.#output.bytes.set(headers);
      this.#output.bytes.set(this.#input.bytes.subarray(at, at + size), data);
      if (udp) this.#out.setUint16(transport + 4, end - transport);
      else this.#finishTcp(transport, { index, last: at + size === length, sequence: at - data });
      this.#finishIp(packet, end, index);
      this.#output.select(0, end);
      this.#frame.plain(this.#output, 0, end);
      if (!deliver(this.#frame)) return;
    }
  }

  #finishTcp(tcp: number, piece: { index: number; last: boolean; sequence: number }): void {
    const out = this.#out;
    out.setUint32(tcp + 4, (out.getUint32(tcp + 4) + piece.sequence) >>> 0);
    let flags = out.getUint8(tcp + 13);
    if (!piece.last) flags &= ~FIN_PSH;
    if (piece.index > 0) flags &= ~CWR;
    out.setUint8(tcp + 13, flags);
  }

  /** Lengths and both checksums, of a packet that ends at `end`. */
  #finishIp({ ip, transport, v4, udp }: Packet, end: number, index: number): void {
    const out = this.#out;
    const addresses = v4 ? ip + 12 : ip + 8;
    const addressesEnd = v4 ? ip + IPV4_HEADER : ip + IPV6_HEADER;
    if (v4) {
      out.setUint16(ip + 2, end - ip);
      out.setUint16(ip + 4, out.getUint16(ip + 4) + index);
      out.setUint16(ip + 10, 0);
      out.setUint16(ip + 10, fold(sum(out, ip, transport)));
    } else out.setUint16(ip + 4, end - ip - IPV6_HEADER);
    const checksum = transport + (udp ? UDP_CHECKSUM : TCP_CHECKSUM);
    out.setUint16(checksum, 0);
    const pseudo = sum(out, addresses, addressesEnd, (udp ? UDP : TCP) + end - transport);
    const value = fold(sum(out, transport, end, pseudo));
    out.setUint16(checksum, udp && value === 0 ? ZERO_CHECKSUM : value);
  }
}
