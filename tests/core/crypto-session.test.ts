import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { readCryptoSession } from "../../core/crypto-session.ts";
import { ProtocolError } from "../../core/errors.ts";

/** A payload with 32-bit numbers and bytes at offsets of the whole, as the C structures have them. */
function payload(numbers: Record<number, number>, bytes: Record<number, number[]> = {}) {
  const data = new Uint8Array(1072);
  const view = new DataView(data.buffer);
  for (const [at, value] of Object.entries(numbers)) view.setUint32(Number(at), value, true);
  for (const [at, value] of Object.entries(bytes)) data.set(value, Number(at));
  return data;
}

const AEAD = 0x302;
const AKCIPHER = 0x404;

describe("A crypto session's description", () => {
  test("of a symmetric session is read from its places", () => {
    const numbers = { 0: AEAD, 8: 3, 12: 4, 16: 5, 20: 20, 24: 2, 28: 7 };
    const bytes = { 32: [2, 1, 3, 4], 40: Array(16).fill(0xff), 56: [1, 2, 3, 4, 5], 120: [6, 7] };
    assert.deepEqual(readCryptoSession(payload(numbers, bytes)), {
      kind: "symmetric",
      operation: AEAD,
      cipher: 3,
      cipherKey: Uint8Array.of(1, 2, 3, 4),
      hash: 5,
      hashResultLength: 20,
      authKey: Uint8Array.of(6, 7),
      additionalLength: 7,
      type: 2,
      direction: 1,
      hashMode: 3,
      chainOrder: 4,
    });
  });

  test("of an asymmetric session is read from its places", () => {
    const numbers = { 0: AKCIPHER, 8: 1, 12: 2, 16: 3, 32: 1, 36: 4 };
    assert.deepEqual(readCryptoSession(payload(numbers, { 40: [9, 8, 7, 6] })), {
      kind: "asymmetric",
      operation: AKCIPHER,
      algorithm: 1,
      keyType: 2,
      key: Uint8Array.of(9, 8, 7),
      rsaPadding: 1,
      rsaHash: 4,
    });
  });

  test("has keys that end where their room does", () => {
    const ends = { 119: [0x40], 631: [0x51], 1063: [0x62] };
    const symmetric = readCryptoSession(payload({ 0: 2, 12: 64, 24: 512 }, ends));
    assert.ok(symmetric.kind === "symmetric");
    assert.equal(symmetric.cipherKey.at(-1), 0x40);
    assert.equal(symmetric.authKey.at(-1), 0x51);
    const asymmetric = readCryptoSession(payload({ 0: AKCIPHER, 16: 1024 }, ends));
    assert.ok(asymmetric.kind === "asymmetric");
    assert.equal(asymmetric.key.at(-1), 0x62);
    const wrong: Record<number, number>[] = [
      { 0: 2, 12: 65 },
      { 0: 2, 24: 513 },
      { 0: AKCIPHER, 16: 1025 },
      { 0: 2, 4: 1 },
      { 0: 3 },
    ];
    for (const numbers of wrong) {
      assert.throws(() => readCryptoSession(payload(numbers)), ProtocolError);
    }
  });
});
