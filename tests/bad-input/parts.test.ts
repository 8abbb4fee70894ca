/** Optional parts of the protocol: crypto sessions, device state, what is shared, and in-band kicks. */
import assert from "node:assert/strict";
import { mask } from "../../core/features.ts";
import { CryptoSession, DeviceState, U64 } from "../../core/payloads.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { bytes, createEventFd, type Fd, libc, socketPair } from "../../ffi/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { stateOf } from "../support/parts-disk.ts";
import { u64 } from "./client.ts";
import { denied, type Guest, protocolMask, state } from "./guest.ts";
import { assortment } from "./objects.ts";
import { suite } from "./row.ts";

const { row, guest } = suite({ device: "parts" });

const protocol =
  protocolMask |
  mask(
    ProtocolFeature.RARP,
    ProtocolFeature.NET_MTU,
    ProtocolFeature.CRYPTO_SESSION,
    ProtocolFeature.BACKEND_SEND_FD,
    ProtocolFeature.INBAND_NOTIFICATIONS,
    ProtocolFeature.SHARED_OBJECT,
    ProtocolFeature.DEVICE_STATE,
    ProtocolFeature.SHMEM,
  );

const CIPHER = 0x002n;
const AKCIPHER = 0x404n;
const NO_SESSION = 2n ** 64n - 1n;

/** A payload of CREATE_CRYPTO_SESSION with fields of its union set, by their offsets in it. */
function session(operation: bigint, fields: readonly [at: number, value: number][]): Uint8Array {
  const body = new Uint8Array(1056);
  for (const [at, value] of fields) new DataView(body.buffer).setUint32(at, value, true);
  return CryptoSession.encode({ operation, body });
}

const [CIPHER_KEY_LENGTH, AUTH_KEY_LENGTH, ASYMMETRIC_KEY_LENGTH] = [4, 16, 8] as const;

row(
  "M14 crypto keys longer than their place are refused",
  {
    log: [
      /Refused CREATE_CRYPTO_SESSION .*a cipher key of 65 bytes/,
      /an authentication key of 513 bytes/,
      /an asymmetric key of 1025 bytes/,
    ],
  },
  () => {
    using g = guest({ protocol });
    const create = (payload: Uint8Array): bigint =>
      CryptoSession.decode(g.client.ask("CREATE_CRYPTO_SESSION", payload)).sessionId;
    const limits = [
      [CIPHER, CIPHER_KEY_LENGTH, 64],
      [CIPHER, AUTH_KEY_LENGTH, 512],
      [AKCIPHER, ASYMMETRIC_KEY_LENGTH, 1024],
    ] as const;
    for (const [operation, at, limit] of limits) {
      for (const length of [limit + 1, limit * 2, 0x7fffffff, 0x80000000, 0xffffffff]) {
        assert.equal(create(session(operation, [[at, length]])), NO_SESSION, `${at}: ${length}`);
      }
      const id = create(session(operation, [[at, limit]]));
      assert.ok(id < 2n ** 63n, "the longest key is taken");
      assert.equal(g.client.ack("CLOSE_CRYPTO_SESSION", u64(id)), "ok");
      assert.equal(g.client.ack("CLOSE_CRYPTO_SESSION", u64(id)), "refused", "twice");
    }
    for (const operation of [0n, 1n, 3n, 0x405n, 2n ** 32n + CIPHER, 2n ** 64n - 1n]) {
      assert.equal(create(session(operation, [])), NO_SESSION, `operation ${operation}`);
    }
    assert.equal(g.client.ack("CLOSE_CRYPTO_SESSION", u64(NO_SESSION)), "refused");
    g.verifyAll();
  },
);

const REFUSED = 0x101n;
const ACCEPTED = 0x100n;

function transfer(g: Guest, direction: number, fd: Fd, phase = 0): bigint {
  const payload = DeviceState.encode({ direction, phase });
  return U64.decode(g.client.ask("SET_DEVICE_STATE_FD", payload, { fds: [fd] })).value;
}

const check = (g: Guest): bigint => g.client.askU64("CHECK_DEVICE_STATE");

function stopRings(g: Guest): void {
  for (const ring of g.rings) g.client.ask("GET_VRING_BASE", state(ring.index, 0));
}

const [SAVE, LOAD] = [0, 1] as const;

row(
  "M15 device state is refused while a ring runs, in other phases, and on what is no stream",
  { log: [/while a vring is started/, /no phase 1/, /no direction 2/, /no pipe, socket or file/] },
  (program) => {
    using g = guest({ protocol });
    using pipe = createPipe();
    assert.equal(check(g), 1n, "there was no transfer");
    assert.equal(transfer(g, SAVE, pipe.writer), REFUSED, "rings run");
    stopRings(g);
    const before = program.holdings();
    for (const direction of [2, 0xffffffff]) {
      assert.equal(transfer(g, direction, pipe.writer), REFUSED);
    }
    for (const phase of [1, 0xffffffff]) {
      assert.equal(transfer(g, SAVE, pipe.writer, phase), REFUSED);
    }
    using eventfd = createEventFd();
    assert.equal(transfer(g, SAVE, eventfd), REFUSED);
    assert.equal(transfer(g, LOAD, eventfd), REFUSED);
    assert.equal(check(g), 1n, "still none");
    assert.deepEqual(program.differences(before), []);
    g.startAll();
    g.verifyAll();
  },
);

row(
  "M15 what is wrong with the stream of a device's state is told by CHECK_DEVICE_STATE",
  {
    log: [
      /EPIPE/,
      /open the other way/,
      /not one of ours/,
      /more than 67108864 bytes/,
      /another transfer is under way/,
      /a vring was started meanwhile/,
    ],
  },
  (program) => {
    using g = guest({ protocol });
    stopRings(g);
    const before = program.holdings();
    // Nobody reads; the wrong end of a pipe, in both directions.
    const closed = createPipe();
    closed.reader.close();
    assert.equal(transfer(g, SAVE, closed.writer), ACCEPTED);
    assert.equal(check(g), 1n);
    closed.writer.close();
    using pipe = createPipe();
    for (const [direction, fd] of [
      [SAVE, pipe.reader],
      [LOAD, pipe.writer],
    ] as const) {
      assert.equal(transfer(g, direction, fd), REFUSED);
    }
    // The end comes within the state, or before it.
    for (const length of [0, 3, 99]) {
      const { reader, writer } = createPipe();
      const part = bytes(length);
      part.set(stateOf(100).subarray(0, length));
      libc.write(writer.number, part, length);
      writer.close();
      assert.equal(transfer(g, LOAD, reader), ACCEPTED);
      assert.equal(check(g), 1n, `${length} bytes`);
      reader.close();
    }
    // A writer without an end.
    const [ours, theirs] = socketPair();
    assert.equal(transfer(g, LOAD, theirs), ACCEPTED);
    assert.equal(transfer(g, LOAD, theirs), REFUSED, "one at a time");
    theirs.close();
    const piece = bytes(1 << 20);
    let written = 0;
    for (let i = 0; i < 200; i++) {
      const count = libc.write(ours.number, piece, piece.length);
      if (count < 0) break;
      written += count;
    }
    assert.ok(written < 70 << 20, `${written} bytes were taken`);
    assert.equal(check(g), 1n);
    ours.close();
    // The rings start while state is under way.
    const late = createPipe();
    assert.equal(transfer(g, LOAD, late.reader), ACCEPTED);
    late.reader.close();
    g.startAll();
    const whole = bytes(100);
    whole.set(stateOf(100));
    libc.write(late.writer.number, whole, 100);
    late.writer.close();
    assert.equal(check(g), 1n);
    stopRings(g);
    // After all that, a good one.
    const { reader, writer } = createPipe();
    assert.equal(transfer(g, SAVE, writer), ACCEPTED);
    assert.equal(check(g), 0n);
    writer.close();
    const received = bytes(4096);
    assert.equal(libc.read(reader.number, received, 4096), 100);
    assert.deepEqual(received.subarray(0, 100), Uint8Array.from(stateOf(100)));
    reader.close();
    assert.deepEqual(program.differences(before), []);
    g.startAll();
    g.verifyAll();
  },
);

row(
  "M15 a stream that stands still does not hold the front-end for ever, nor outlive it",
  { log: [/CHECK_DEVICE_STATE .*stalled/] },
  () => {
    using pipe = createPipe();
    {
      using g = guest({ protocol });
      stopRings(g);
      assert.equal(transfer(g, LOAD, pipe.reader), ACCEPTED);
      const start = performance.now();
      g.client.send("CHECK_DEVICE_STATE");
      const reply = g.client.receive(20_000);
      assert.ok(typeof reply !== "string");
      assert.equal(U64.decode(reply.payload).value, 1n);
      assert.ok(performance.now() - start > 5_000, "it was given its time");
    }
    using g = guest({ protocol });
    stopRings(g);
    assert.equal(transfer(g, LOAD, pipe.reader), ACCEPTED);
    // And the connection ends while another one waits.
  },
);

row(
  "F7 parts of the protocol want their descriptors, and no others",
  { log: [/SET_DEVICE_STATE_FD carries 0 descriptors, not 1 to 1/] },
  (program) => {
    using g = guest({ protocol });
    stopRings(g);
    const objects = assortment();
    const before = program.holdings();
    const payload = DeviceState.encode({ direction: SAVE, phase: 0 });
    for (const fds of [[], objects.slice(0, 2), objects]) {
      const reply = g.client.ask("SET_DEVICE_STATE_FD", payload, { fds });
      assert.equal(U64.decode(reply).value, REFUSED, `${fds.length} descriptors`);
      if (fds.length === 0) continue;
      const checked = g.client.ask("CHECK_DEVICE_STATE", undefined, { fds });
      assert.equal(U64.decode(checked).value, 1n);
      for (const name of ["SEND_RARP", "NET_SET_MTU", "CLOSE_CRYPTO_SESSION"] as const) {
        assert.ok(denied.includes(g.client.ack(name, u64(1500), fds)), name);
      }
      assert.ok(denied.includes(g.client.ack("VRING_KICK", state(0, 0), fds)));
    }
    assert.deepEqual(program.differences(before), []);
    for (const fd of objects) fd.close();
    g.startAll();
    g.verifyAll();
  },
);

row(
  "F13 regions of Xen are refused with their reason",
  { log: [/Refused ADD_MEM_REG .*Xen regions \(domain 5, flags 0x2\): XEN_MMAP is not supported/] },
  (program) => {
    using g = guest({ protocol });
    const before = program.holdings();
    const region = new Uint8Array(48);
    new DataView(region.buffer).setUint32(40, 2, true);
    new DataView(region.buffer).setUint32(44, 5, true);
    assert.equal(g.client.ack("ADD_MEM_REG", region, [g.memfd]), "refused");
    assert.deepEqual(program.differences(before), []);
    g.verifyAll();
  },
);

row(
  "V1 VRING_KICK of a vring that does not exist is refused",
  { log: [/Refused VRING_KICK .*Cannot use vring 4294967295/] },
  () => {
    using g = guest({ protocol });
    for (const index of [128, 255, 256, 65536, 65537, 0xffffffff]) {
      assert.equal(g.client.ack("VRING_KICK", state(index, 0)), "refused", `vring ${index}`);
    }
    assert.equal(g.client.ack("VRING_KICK", state(0, 1)), "refused");
    for (let i = 0; i < 1000; i++) g.client.send("VRING_KICK", state(i % 128, 0));
    g.verifyAll();
  },
);
