import assert from "node:assert/strict";
import { createCipheriv, randomBytes } from "node:crypto";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { CryptoDriver, type CryptoOptions } from "../../frontend/mod.ts";
import { launcher, Program, root } from "../support/program.ts";

const AES_CBC = 3;
const Status = { OK: 0, ERR: 1, BADMSG: 2, NOTSUPP: 3, INVSESS: 4 } as const;
const hex = (text: string) => Uint8Array.from(Buffer.from(text, "hex"));

/** NIST SP 800-38A, F.2: keys, and the ciphertexts of one plaintext. */
const iv = hex("000102030405060708090a0b0c0d0e0f");
const plain = hex(
  "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
);
const known = [
  {
    key: hex("2b7e151628aed2a6abf7158809cf4f3c"),
    cipher: hex(
      "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2" +
        "73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
    ),
  },
  {
    key: hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
    cipher: hex(
      "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d" +
        "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
    ),
  },
];

describe("examples/crypto.ts", () => {
  let program: Program;
  before(() => {
    const example = join(root, "examples", "crypto.ts");
    const args = ["--data-queues=2", "--socket-path=SOCKET"];
    program = new Program([launcher("ringside"), example, ...args]);
  });
  after(() => program[Symbol.dispose]());
  const connect = (options?: CryptoOptions) => CryptoDriver.connect(program.socket, options);

  it("encrypts and decrypts what others know the result of, on each queue", () => {
    using driver = connect({ queues: 2 });
    for (const { key, cipher } of known) {
      const session = driver.openSession(AES_CBC, key);
      for (const queue of [0, 1]) {
        const there = driver.request({ session, encrypt: true, iv, data: plain }, queue);
        assert.deepEqual(there, { status: Status.OK, data: cipher });
        const back = driver.request({ session, encrypt: false, iv, data: cipher }, queue);
        assert.deepEqual(back, { status: Status.OK, data: plain });
      }
      driver.closeSession(session);
    }
  });

  it("keeps sessions apart, and serves large requests", () => {
    using driver = connect({ maxBytes: 1 << 20 });
    const keys = [16, 32, 32].map((length) => new Uint8Array(randomBytes(length)));
    const sessions = keys.map((key) => driver.openSession(AES_CBC, key));
    assert.equal(new Set(sessions).size, 3);
    const data = new Uint8Array(randomBytes((1 << 20) - 512));
    keys.forEach((key, i) => {
      const cipher = createCipheriv(`aes-${key.length * 8}-cbc`, key, iv).setAutoPadding(false);
      const expected = Buffer.concat([cipher.update(data), cipher.final()]);
      const got = driver.request({ session: sessions[i]!, encrypt: true, iv, data });
      assert.equal(got.status, Status.OK);
      assert.equal(Buffer.compare(got.data, expected), 0);
    });
  });

  it("answers what it cannot serve with the status for it", () => {
    using driver = connect();
    const session = driver.openSession(AES_CBC, known[0]!.key);
    const good = { session, encrypt: true, iv, data: plain };
    const status = (change: object) => driver.request({ ...good, ...change }).status;
    assert.equal(status({ session: session + 1n }), Status.INVSESS);
    assert.equal(status({ opcode: 0x100 }), Status.NOTSUPP);
    assert.equal(status({ iv: iv.subarray(1) }), Status.ERR);
    assert.equal(status({ data: plain.subarray(1) }), Status.ERR);
    assert.equal(status({ claimed: 80 }), Status.BADMSG);
    assert.equal(status({ claimed: 0xfffffff0 }), Status.ERR);
    assert.equal(status({ room: 48 }), Status.BADMSG);
    assert.equal(driver.queues[0]!.exchange(new Uint8Array(20), 1)[0], Status.BADMSG);
    assert.equal(driver.queues[0]!.exchange(new Uint8Array(72), 0).length, 0);
    assert.equal(status({}), Status.OK);
    driver.closeSession(session);
    assert.equal(status({}), Status.INVSESS);
    assert.throws(() => driver.closeSession(session), { fault: "refused" });
  });

  it("refuses sessions that it cannot serve", () => {
    using driver = connect();
    const refused = { fault: "refused" };
    assert.throws(() => driver.openSession(2, known[0]!.key), refused);
    for (const length of [0, 15, 17, 24, 64, 65]) {
      assert.throws(() => driver.openSession(AES_CBC, new Uint8Array(length)), refused);
    }
    const open = () => driver.openSession(AES_CBC, known[0]!.key);
    for (let i = 0; i < 1024; i++) open();
    assert.throws(open, refused);
  });

  it("forgets the sessions of a front-end that is gone", () => {
    let session: bigint;
    {
      using driver = connect();
      session = driver.openSession(AES_CBC, known[0]!.key);
    }
    using driver = connect();
    const request = { session, encrypt: true, iv, data: plain };
    assert.equal(driver.request(request).status, Status.INVSESS);
  });
});
