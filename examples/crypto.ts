/**
 * A crypto accelerator that encrypts and decrypts with AES-CBC (virtio 1.3, 5.9):
 *
 *     ringside ./crypto.ts --socket-path=/run/vm/crypto.sock --data-queues=2
 *
 * The front-end keeps the control queue for itself and opens sessions by messages of vhost-user; the
 * requests of the guest's driver name a session and come on the data queues.
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import {
  type Chain,
  CryptoOperation,
  type CryptoSessionRequest,
  defineDevice,
  layout,
  le32,
  le64,
  ProtocolError,
  Type,
} from "@ringside/vhost";

const HW_READY = 1;
const SERVICE_CIPHER = 0;
const AES_CBC = 3;
/** A session of a cipher alone, without a hash. */
const CIPHER_ONLY = 1;
const Opcode = { ENCRYPT: 0x000, DECRYPT: 0x001 } as const;
const Status = { OK: 0, ERR: 1, BADMSG: 2, NOTSUPP: 3, INVSESS: 4 } as const;

const BLOCK = 16;
/** Bytes of a key. Not every runtime has AES with 24. */
const KEYS = [16, 32] as const;
/** Bytes of data in one request. */
const MAX_SIZE = 1 << 20;
const MAX_SESSIONS = 1024;

/** A request's fields; IV and data follow. */
const Field = { opcode: 0, session: 8, ivLength: 24, sourceLength: 28, resultLength: 32 } as const;
const HEADER_SIZE = 72;

const config = layout(
  Type.Object({
    status: le32(),
    maxDataQueues: le32(),
    services: le32(),
    ciphersLow: le32(),
    ciphersHigh: le32(),
    hashes: le32(),
    macsLow: le32(),
    macsHigh: le32(),
    aeads: le32(),
    maxCipherKey: le32(),
    maxAuthKey: le32(),
    akciphers: le32(),
    maxSize: le64(),
  }),
);

/** The key of a session, or an error for one that cannot be served. */
function keyOf(request: CryptoSessionRequest): Uint8Array {
  if (request.kind !== "symmetric" || request.operation !== CryptoOperation.CIPHER) {
    throw new ProtocolError("only sessions of ciphers are served");
  }
  const { cipher, type, cipherKey } = request;
  if (cipher !== AES_CBC || type !== CIPHER_ONLY) {
    throw new ProtocolError(`only AES-CBC (${AES_CBC}) alone is served, not algorithm ${cipher}`);
  }
  if (!KEYS.some((length) => length === cipherKey.length)) {
    throw new ProtocolError(`there is no AES here with keys of ${cipherKey.length} bytes`);
  }
  return cipherKey;
}

function bytesOf(chain: Chain, at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  chain.read(bytes, at);
  return bytes;
}

/** Serves a request. Returns its result, or the status that tells why there is none. */
function cipher(chain: Chain, sessions: ReadonlyMap<bigint, Uint8Array>): Uint8Array | number {
  if (chain.readableBytes < HEADER_SIZE) return Status.BADMSG;
  const opcode = chain.readU32(Field.opcode);
  const ivLength = chain.readU32(Field.ivLength);
  const length = chain.readU32(Field.sourceLength);
  const room = chain.readU32(Field.resultLength);
  if (opcode !== Opcode.ENCRYPT && opcode !== Opcode.DECRYPT) return Status.NOTSUPP;
  const key = sessions.get(BigInt(chain.readU64(Field.session)));
  if (key === undefined) return Status.INVSESS;
  if (ivLength !== BLOCK || length % BLOCK !== 0 || length > MAX_SIZE) return Status.ERR;
  const complete = chain.readableBytes >= HEADER_SIZE + ivLength + length;
  if (!complete || room < length || chain.writableBytes < length + 1) return Status.BADMSG;
  const iv = bytesOf(chain, HEADER_SIZE, ivLength);
  const data = bytesOf(chain, HEADER_SIZE + ivLength, length);
  const make = opcode === Opcode.ENCRYPT ? createCipheriv : createDecipheriv;
  const work = make(`aes-${key.length * 8}-cbc`, key, iv).setAutoPadding(false);
  return Buffer.concat([work.update(data), work.final()]);
}

/** The status is the last byte, whatever lies before it. */
function answer(chain: Chain, outcome: Uint8Array | number): number {
  const room = chain.writableBytes;
  if (room === 0) return 0;
  const result = typeof outcome === "number" ? new Uint8Array(0) : outcome;
  const written = chain.write(result);
  for (let at = written; at < room - 1 && room <= MAX_SIZE; at++) chain.writeU8(at, 0);
  chain.writeLastU8(typeof outcome === "number" ? outcome : Status.OK);
  return room <= MAX_SIZE || written === room - 1 ? room : written;
}

export default defineDevice({
  type: "crypto",
  id: 20,
  summary: "Encrypts and decrypts with AES-CBC",
  options: Type.Object({
    dataQueues: Type.Integer({
      default: 1,
      minimum: 1,
      maximum: 16,
      description: "Virtqueues that take requests",
    }),
  }),
  features: {},
  config,
  queues: ({ dataQueues }) =>
    Array.from({ length: dataQueues }, (_, i) => ({ name: `data ${i}`, maxSize: 1024 })),
  minQueues: 1,
  protocol: ["CRYPTO_SESSION"],
  open({ dataQueues }) {
    const sessions = new Map<bigint, Uint8Array>();
    let last = 0n;
    return {
      config: {
        status: HW_READY,
        maxDataQueues: dataQueues,
        services: 1 << SERVICE_CIPHER,
        ciphersLow: 1 << AES_CBC,
        maxCipherKey: Math.max(...KEYS),
        maxSize: BigInt(MAX_SIZE),
      },
      device: {
        handle: (chain) => answer(chain, cipher(chain, sessions)),
        createCryptoSession(request) {
          const key = keyOf(request);
          if (sessions.size === MAX_SESSIONS) throw new ProtocolError("no session is left");
          sessions.set(++last, key);
          return last;
        },
        closeCryptoSession(id) {
          if (!sessions.delete(id)) throw new ProtocolError(`there is no session ${id}`);
        },
        disconnected: () => sessions.clear(),
      },
    };
  },
});
