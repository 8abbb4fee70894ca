/**
 * What a frame's header leaves to be done, done here: for a guest that takes no open checksums or no
 * uncut TCP packets, and gets them from one that sends them. The slow way: it copies.
 */
import { HostChain } from "../../core/host-chain.ts";
import { Frame } from "./frame.ts";
import { ETHERNET_HEADER, Gso, MAX_FRAME, VLAN_TAG } from "./wire.ts";

const ETHERTYPE_VLAN = 0x8100;
const TCP = 6;
const UDP_CHECKSUM = 6;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const TCP_HEADER = 20;
const FIN_PSH = 0x09;
const CWR = 0x80;

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
   * Hands what a frame becomes to `deliver`. False when it cannot be done: the packet is of another kind,
   * or its headers make no sense.
   */
  finish(frame: Frame, deliver: (frame: Frame) => void): boolean {
    frame.chain.read(this.#input.bytes.subarray(0, frame.length), frame.at);
    if (frame.gsoType === Gso.NONE) {
      this.#fillChecksum(frame);
      this.#input.select(0, frame.length);
      this.#frame.plain(this.#input, 0, frame.length);
      deliver(this.#frame);
      return true;
    }
    const type = frame.gsoType & ~Gso.ECN;
    if (type !== Gso.TCPV4 && type !== Gso.TCPV6) return false;
    return this.#segment(frame, type === Gso.TCPV4, deliver);
  }

  #fillChecksum({ csumStart, csumOffset, length }: Frame): void {
    const value = fold(sum(this.#in, csumStart, length));
    // Of UDP, 0 says that there is none.
    const written = value === 0 && csumOffset === UDP_CHECKSUM ? 0xffff : value;
    this.#in.setUint16(csumStart + csumOffset, written);
  }

  /** Cuts a TCP packet into ones of `gsoSize` bytes each. */
  #segment(frame: Frame, v4: boolean, deliver: (frame: Frame) => void): boolean {
    const { length, gsoSize, csumStart: tcp } = frame;
    const input = this.#in;
    const tagged = input.getUint16(ETHERNET_HEADER - 2) === ETHERTYPE_VLAN;
    const ip = ETHERNET_HEADER + (tagged ? VLAN_TAG : 0);
    if (tcp < ip + (v4 ? IPV4_HEADER : IPV6_HEADER) || tcp + TCP_HEADER > length) return false;
    const version = input.getUint8(ip);
    if (version >> 4 !== (v4 ? 4 : 6) || input.getUint8(ip + (v4 ? 9 : 6)) !== TCP) return false;
    // Without extension headers, of which there are hardly any.
    if (tcp !== ip + (v4 ? (version & 15) * 4 : IPV6_HEADER)) return false;
    const data = tcp + (input.getUint8(tcp + 12) >> 4) * 4;
    if (data < tcp + TCP_HEADER || data >= length) return false;
    const headers = this.#input.bytes.subarray(0, data);
    for (let at = data, index = 0; at < length; at += gsoSize, index++) {
      const size = Math.min(gsoSize, length - at);
      this.#output.bytes.set(headers);
      this.#output.bytes.set(this.#input.bytes.subarray(at, at + size), data);
      const last = at + size === length;
      this.#finishTcp(tcp, { index, last, sequence: at - data });
      this.#finishIp(ip, tcp, data + size, v4, index);
      this.#output.select(0, data + size);
      this.#frame.plain(this.#output, 0, data + size);
      deliver(this.#frame);
    }
    return true;
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
  #finishIp(ip: number, tcp: number, end: number, v4: boolean, index: number): void {
    const out = this.#out;
    const addresses = v4 ? ip + 12 : ip + 8;
    const addressesEnd = v4 ? ip + IPV4_HEADER : ip + IPV6_HEADER;
    if (v4) {
      out.setUint16(ip + 2, end - ip);
      out.setUint16(ip + 4, out.getUint16(ip + 4) + index);
      out.setUint16(ip + 10, 0);
      out.setUint16(ip + 10, fold(sum(out, ip, tcp)));
    } else out.setUint16(ip + 4, end - ip - IPV6_HEADER);
    out.setUint16(tcp + 16, 0);
    const pseudo = sum(out, addresses, addressesEnd, TCP + end - tcp);
    out.setUint16(tcp + 16, fold(sum(out, tcp, end, pseudo)));
  }
}
