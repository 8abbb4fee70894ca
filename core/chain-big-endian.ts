/**
 * Chains of drivers from before virtio 1.0 on big-endian machines: the numbers of their headers have
 * the machine's byte order (virtio 1.3, 2.7.4.3). A device reads them by the same calls.
 */
import { Chain, HeldChain } from "./chain.ts";

function readU16(chain: Chain, at: number): number {
  return (chain.readU8(at) << 8) | chain.readU8(at + 1);
}

function readU32(chain: Chain, at: number): number {
  return ((readU16(chain, at) << 16) | readU16(chain, at + 2)) >>> 0;
}

function readU64(chain: Chain, at: number): number {
  return readU32(chain, at) * 4294967296 + readU32(chain, at + 4);
}

export class BigEndianChain extends Chain {
  override readU16(at: number): number {
    return readU16(this, at);
  }

  override readU32(at: number): number {
    return readU32(this, at);
  }

  override readU64(at: number): number {
    return readU64(this, at);
  }
}

export class BigEndianHeldChain extends HeldChain {
  override readU16(at: number): number {
    return readU16(this, at);
  }

  override readU32(at: number): number {
    return readU32(this, at);
  }

  override readU64(at: number): number {
    return readU64(this, at);
  }
}
