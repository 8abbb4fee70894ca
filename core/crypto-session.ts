/**
 * The description of a crypto session, as the front-end sends it with CREATE_CRYPTO_SESSION
 * (vhost-user: Crypto session description).
 */
import { Type } from "typebox";
import { ProtocolError } from "./errors.ts";
import { layout, le32, raw, u8 } from "./layout.ts";
import { CryptoSession } from "./payloads.ts";

/** What kind of session is asked for (virtio 1.3, 5.9.7.2.1). */
export const CryptoOperation = {
  CIPHER: 0x002,
  HASH: 0x102,
  MAC: 0x202,
  AEAD: 0x302,
  AKCIPHER: 0x404,
} as const;

/** Bytes that a message has for each kind of key. */
const KeyLimit = { cipher: 64, auth: 512, asymmetric: 1024 } as const;

const Symmetric = layout(
  Type.Object({
    cipher: le32(),
    cipherKeyLength: le32(),
    hash: le32(),
    hashResultLength: le32(),
    authKeyLength: le32(),
    additionalLength: le32(),
    type: u8(),
    direction: u8(),
    hashMode: u8(),
    chainOrder: u8(),
    // The front-end's own pointers to the keys.
    padding: raw(4),
    pointers: raw(16),
    cipherKey: raw(KeyLimit.cipher),
    authKey: raw(KeyLimit.auth),
  }),
);

const Asymmetric = layout(
  Type.Object({
    algorithm: le32(),
    keyType: le32(),
    keyLength: le32(),
    padding: raw(4),
    pointer: raw(8),
    rsaPadding: le32(),
    rsaHash: le32(),
    key: raw(KeyLimit.asymmetric),
  }),
);

/** A session of a cipher, hash, MAC or AEAD. Numbers are those of virtio 1.3, 5.9. */
export interface SymmetricSession {
  readonly kind: "symmetric";
  readonly operation: number;
  /** Cipher or AEAD algorithm. */
  readonly cipher: number;
  readonly cipherKey: Uint8Array;
  /** Hash or MAC algorithm, its result's bytes, and its key. */
  readonly hash: number;
  readonly hashResultLength: number;
  readonly authKey: Uint8Array;
  /** Bytes of additional authenticated data. */
  readonly additionalLength: number;
  /** 1: cipher alone, 2: with a hash or MAC. */
  readonly type: number;
  /** 1: encrypt, 2: decrypt. */
  readonly direction: number;
  readonly hashMode: number;
  readonly chainOrder: number;
}

/** A session of an asymmetric cipher. */
export interface AsymmetricSession {
  readonly kind: "asymmetric";
  readonly operation: number;
  readonly algorithm: number;
  /** 1: public, 2: private. */
  readonly keyType: number;
  readonly key: Uint8Array;
  readonly rsaPadding: number;
  readonly rsaHash: number;
}

export type CryptoSessionRequest = SymmetricSession | AsymmetricSession;

function keyOf(what: string, room: Uint8Array, length: number): Uint8Array {
  if (length > room.length) {
    throw new ProtocolError(
      `Cannot use ${what} key of ${length} bytes: it may have ${room.length} at most`,
    );
  }
  return room.slice(0, length);
}

/** Reads the payload of CREATE_CRYPTO_SESSION. Throws `ProtocolError` for keys that do not fit. */
export function readCryptoSession(payload: Uint8Array): CryptoSessionRequest {
  const at = CryptoSession.offset.body;
  const { operation: code } = CryptoSession.decode(payload);
  const operation = Number(code);
  if (!(Object.values(CryptoOperation) as number[]).includes(operation)) {
    throw new ProtocolError(`There is no crypto session of operation 0x${code.toString(16)}`);
  }
  if (operation === CryptoOperation.AKCIPHER) {
    const wire = Asymmetric.decode(payload, at);
    const { algorithm, keyType, rsaPadding, rsaHash } = wire;
    const key = keyOf("an asymmetric", wire.key, wire.keyLength);
    return { kind: "asymmetric", operation, algorithm, keyType, key, rsaPadding, rsaHash };
  }
  const wire = Symmetric.decode(payload, at);
  return {
    kind: "symmetric",
    operation,
    cipher: wire.cipher,
    cipherKey: keyOf("a cipher", wire.cipherKey, wire.cipherKeyLength),
    hash: wire.hash,
    hashResultLength: wire.hashResultLength,
    authKey: keyOf("an authentication", wire.authKey, wire.authKeyLength),
    additionalLength: wire.additionalLength,
    type: wire.type,
    direction: wire.direction,
    hashMode: wire.hashMode,
    chainOrder: wire.chainOrder,
  };
}
