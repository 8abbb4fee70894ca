/** A crypto driver for ciphers (virtio 1.3, 5.9), with sessions opened by vhost-user messages. */
import { mask } from "../../core/features.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { type BackEndAddress, Frontend, type FrontendOptions } from "../frontend.ts";
import { protocolFeatures } from "../negotiation.ts";
import { closeCryptoSession, createCryptoSession } from "../parts.ts";
import { SimpleQueue } from "./simple.ts";

export interface CryptoOptions extends FrontendOptions {
  /** Bytes of data per request at most; 4096 by default. */
  readonly maxBytes?: number;
  /** Data queues to use; 1 by default. */
  readonly queues?: number;
}

const CIPHER_CREATE_SESSION = 0x002;
const CIPHER_ONLY = 1;
const ENCRYPT = 0x000;
const DECRYPT = 0x001;
const HEADER_SIZE = 72;

/** What a cipher's request says, for tests that say something wrong. */
export interface CipherRequest {
  readonly session: bigint;
  readonly encrypt: boolean;
  readonly iv: Uint8Array;
  readonly data: Uint8Array;
  /** The header's opcode, when it is not the one of `encrypt`. */
  readonly opcode?: number;
  /** Bytes that the header claims, when they are not those that follow. */
  readonly claimed?: number;
  /** Bytes for the result; as many as the data has by default. */
  readonly room?: number;
}

export interface CipherResult {
  /** 0: OK, 1: ERR, 2: BADMSG, 3: NOTSUPP, 4: INVSESS. */
  readonly status: number;
  readonly data: Uint8Array;
}

export class CryptoDriver implements Disposable {
  readonly frontend: Frontend;
  readonly queues: readonly SimpleQueue[];

  /** Takes a front-end that has not been started, and starts it. */
  constructor(frontend: Frontend, { maxBytes = 4096, queues = 1 }: CryptoOptions = {}) {
    this.frontend = frontend;
    this.queues = Array.from(
      { length: queues },
      (_, index) => new SimpleQueue(frontend, { index, maxBytes: maxBytes + HEADER_SIZE + 256 }),
    );
    frontend.start();
  }

  /** Connects, and starts the device. */
  static connect(to: BackEndAddress, options: CryptoOptions = {}): CryptoDriver {
    const protocol = protocolFeatures | mask(ProtocolFeature.CRYPTO_SESSION);
    const frontend = Frontend.open(to, { protocol, ...options });
    try {
      return new CryptoDriver(frontend, options);
    } catch (error) {
      frontend[Symbol.dispose]();
      throw error;
    }
  }

  /** Opens a session of a cipher algorithm. */
  openSession(algorithm: number, key: Uint8Array): bigint {
    const body = new Uint8Array(1056);
    const view = new DataView(body.buffer);
    view.setUint32(0, algorithm, true);
    view.setUint32(4, key.length, true);
    body[24] = CIPHER_ONLY;
    body[25] = 1;
    body.set(key.subarray(0, 64), 48);
    return createCryptoSession(this.frontend.connection, CIPHER_CREATE_SESSION, body);
  }

  closeSession(id: bigint): void {
    closeCryptoSession(this.frontend.connection, id);
  }

  /** Sends a request on a queue and returns what came of it. */
  request(request: CipherRequest, queue = 0): CipherResult {
    const { session, encrypt, iv, data, claimed = data.length, room = data.length } = request;
    const bytes = new Uint8Array(HEADER_SIZE + iv.length + data.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, request.opcode ?? (encrypt ? ENCRYPT : DECRYPT), true);
    view.setBigUint64(8, session, true);
    view.setUint32(24, iv.length, true);
    view.setUint32(28, claimed, true);
    view.setUint32(32, room, true);
    view.setUint32(64, CIPHER_ONLY, true);
    bytes.set(iv, HEADER_SIZE);
    bytes.set(data, HEADER_SIZE + iv.length);
    const answer = this.queues[queue]!.exchange(bytes, room + 1);
    return { status: answer[room] ?? -1, data: answer.subarray(0, room) };
  }

  [Symbol.dispose](): void {
    this.frontend[Symbol.dispose]();
  }
}
