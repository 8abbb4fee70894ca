/**
 * An Ethernet frame on its way, and what its virtio-net header says (virtio 1.3, 5.1.6.2). The header's
 * fields are read once and checked here; only these copies are used, for the guest can change its own
 * at any time.
 */
import type { Chain } from "../../core/chain.ts";
import type { Offloads } from "./offloads.ts";
import { ETHERNET_HEADER, Gso, Header, HeaderFlag, MAX_FRAME } from "./wire.ts";

const { NEEDS_CSUM } = HeaderFlag;
const { NONE } = Gso;
const { hdrLen, gsoSize, csumStart, csumOffset } = Header;
const SHORTEST = ETHERNET_HEADER;
const LONGEST = MAX_FRAME;

export class Frame {
  /** Holds the frame as part of its device-readable bytes. */
  chain!: Chain;
  /** Where the frame begins in the chain, and its length, in bytes. */
  at = 0;
  length = 0;
  /** NEEDS_CSUM or nothing. */
  flags = 0;
  gsoType = 0;
  hdrLen = 0;
  gsoSize = 0;
  csumStart = 0;
  csumOffset = 0;

  /** Makes this the frame in `chain` from `at` on, which needs nothing done. */
  plain(chain: Chain, at: number, length: number): void {
    this.chain = chain;
    this.at = at;
    this.length = length;
    this.flags = 0;
    this.gsoType = 0;
    this.hdrLen = 0;
    this.gsoSize = 0;
    this.csumStart = 0;
    this.csumOffset = 0;
  }

  /**
   * Makes this the frame in `chain`, which begins with a header of `headerSize` bytes. False when it
   * cannot be sent: too short, too long, or with a header that is wrong or asks for an offload that
   * `allowed` does not have.
   */
  parse(chain: Chain, headerSize: number, allowed: Offloads): boolean {
    const length = chain.readableBytes - headerSize;
    if (length < SHORTEST || length > LONGEST) return false;
    this.plain(chain, headerSize, length);
    // Nearly always there is nothing to be done.
    return chain.readU32(0) === 0 || this.#readHeader(length, allowed);
  }

  #readHeader(length: number, allowed: Offloads): boolean {
    const { chain } = this;
    const flags = chain.readU8(Header.flags) & NEEDS_CSUM;
    const gsoType = chain.readU8(Header.gsoType);
    const headers = chain.readU16(hdrLen);
    if (headers > length) return false;
    if (flags !== 0) {
      const start = chain.readU16(csumStart);
      const offset = chain.readU16(csumOffset);
      if (!allowed.csum || start + offset + 2 > length) return false;
      this.csumStart = start;
      this.csumOffset = offset;
    }
    if (gsoType !== NONE) {
      const size = chain.readU16(gsoSize);
      // 5.1.6.2.1: whoever has a packet cut leaves its checksums open.
      if (size === 0 || flags === 0 || !allowed.accepts(gsoType)) return false;
      this.gsoSize = size;
    }
    this.flags = flags;
    this.gsoType = gsoType;
    this.hdrLen = headers;
    return true;
  }

  /** True when the frame needs a checksum or has to be cut. */
  get offloaded(): boolean {
    return (this.flags | this.gsoType) !== 0;
  }

  /** Writes the header into `target`, little-endian, `size` bytes. */
  encodeHeader(target: DataView, size: number, buffers: number): void {
    target.setUint8(Header.flags, this.flags);
    target.setUint8(Header.gsoType, this.gsoType);
    target.setUint16(hdrLen, this.hdrLen, true);
    target.setUint16(gsoSize, this.gsoSize, true);
    target.setUint16(csumStart, this.csumStart, true);
    target.setUint16(csumOffset, this.csumOffset, true);
    if (size > Header.numBuffers) target.setUint16(Header.numBuffers, buffers, true);
  }
}
