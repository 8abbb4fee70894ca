/** What a command is answered with (virtio 1.3, 5.7.6.7). */
import type { Chain } from "../../core/chain.ts";
import type { Log } from "../../core/log.ts";
import { Header, HeaderFlag, Response } from "./wire.ts";

/** Bytes of a response at most: of a capset, which a renderer that is newer than we know may have. */
const MAX_RESPONSE = 4096;

/** Bytes of a capset at most. */
export const MAX_CAPSET: number = MAX_RESPONSE - Header.size;

export class Responder {
  readonly #log: Log;
  /** Room for the longest response there is; zero behind the header between two of them. */
  readonly #bytes = new Uint8Array(MAX_RESPONSE);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #header = this.#bytes.subarray(0, Header.size);

  constructor(log: Log) {
    this.#log = log;
  }

  /** Answers that all went well. Returns the bytes written, like all of these. */
  ok(chain: Chain): number {
    return this.#bare(chain, Response.OK_NODATA);
  }

  /** Answers with `data` behind the header, `size` bytes in all. */
  data(chain: Chain, type: number, data: Uint8Array, size: number): number {
    const bytes = this.#bytes;
    this.#begin(chain, type);
    bytes.set(data, Header.size);
    const written = chain.write(bytes.subarray(0, size));
    bytes.fill(0, Header.size, size);
    return written;
  }

  /** Answers that a command cannot be carried out, and says why in the log. */
  refuse(chain: Chain, type: number, reason: string): number {
    const command = chain.readableBytes >= 4 ? chain.readU32(Header.type) : 0;
    this.#log.warn(`Refused a command: ${reason}`, { command: `0x${command.toString(16)}` });
    return this.#bare(chain, type);
  }

  #bare(chain: Chain, type: number): number {
    this.#begin(chain, type);
    return chain.write(this.#header);
  }

  /** What came with a fence is answered with it. */
  #begin(chain: Chain, type: number): void {
    const bytes = this.#bytes;
    const view = this.#view;
    bytes.fill(0, 0, Header.size);
    view.setUint32(Header.type, type, true);
    if (chain.readableBytes < Header.size) return;
    const { FENCE, INFO_RING_IDX } = HeaderFlag;
    const flags = chain.readU32(Header.flags);
    if ((flags & FENCE) === 0) return;
    view.setUint32(Header.flags, flags & (FENCE | INFO_RING_IDX), true);
    view.setUint32(Header.fence, chain.readU32(Header.fence), true);
    view.setUint32(Header.fence + 4, chain.readU32(Header.fence + 4), true);
    view.setUint32(Header.context, chain.readU32(Header.context), true);
    if ((flags & INFO_RING_IDX) !== 0) bytes[Header.ring] = chain.readU8(Header.ring);
  }
}
