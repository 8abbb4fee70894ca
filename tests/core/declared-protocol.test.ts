import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Type } from "typebox";
import { declaredNames, offeredParts } from "../../core/declared-protocol.ts";
import { type AnyDevice, type Device, defineDevice } from "../../core/device.ts";
import { bitsOf } from "../../core/features.ts";
import { FrontEnd, uuidBytes } from "../../core/front-end.ts";
import { layout } from "../../core/layout.ts";
import { ProtocolFeature } from "../../core/protocol.ts";

const plain: AnyDevice = defineDevice({
  type: "rng",
  id: 4,
  summary: "A device for tests",
  options: Type.Object({}),
  features: {},
  config: layout(Type.Object({})),
  queues: [{ name: "request" }],
  open: () => ({ config: {}, device: {} }),
});

const offer = (declared: Partial<AnyDevice>, device: Device = {}) =>
  bitsOf(offeredParts({ ...plain, ...declared }, device));

const state: Device = { save: () => new Uint8Array(1), load: () => {} };

describe("A device's parts of the protocol", () => {
  test("are offered when they are declared and their hooks are there", () => {
    assert.deepEqual(offer({}), []);
    assert.deepEqual(offer({ protocol: ["DEVICE_STATE", "RARP"] }, state), [
      ProtocolFeature.DEVICE_STATE,
    ]);
    assert.deepEqual(
      offer({ protocol: ["DEVICE_STATE", "RARP", "NET_MTU"] }, { ...state, rarp() {}, mtu() {} }),
      [ProtocolFeature.RARP, ProtocolFeature.NET_MTU, ProtocolFeature.DEVICE_STATE],
    );
  });

  test("are offered without hooks where the device only asks", () => {
    const protocol = ["HOST_NOTIFIER", "SHARED_OBJECT"] as const;
    assert.deepEqual(offer({ protocol }), [
      ProtocolFeature.HOST_NOTIFIER,
      ProtocolFeature.SHARED_OBJECT,
    ]);
    assert.deepEqual(offer({ sharedMemory: [4096] }), [ProtocolFeature.SHMEM]);
  });

  test("must fit the hooks", () => {
    assert.throws(() => offer({}, state), /has save\(\) and no DEVICE_STATE in its protocol/);
    const half = { save: state.save! };
    assert.throws(
      () => offer({ protocol: ["DEVICE_STATE"] }, half),
      /has save\(\) and no load\(\)/,
    );
    const wrong = ["STATUS"] as unknown as ["RARP"];
    assert.throws(() => offer({ protocol: wrong }), /no such part of the protocol/);
  });

  test("can be named without opening the device", () => {
    assert.deepEqual(declaredNames(plain), []);
    const declared = { ...plain, protocol: ["RARP"], sharedMemory: [0] } as const;
    assert.deepEqual(declaredNames(declared), ["RARP", "SHMEM"]);
  });
});

describe("What a device asks of a front-end", () => {
  test("is rejected while none is connected", async () => {
    const frontEnd = new FrontEnd([8192]);
    const uuid = "00112233-4455-6677-8899-aabbccddeeff";
    await assert.rejects(frontEnd.lookupObject(uuid), /no front-end is connected/);
    await assert.rejects(frontEnd.unmapShared(0, { offset: 0, length: 4096 }), /no front-end/);
    using _ = frontEnd.shareObject(uuid, 0);
    assert.throws(() => frontEnd.shareObject(uuid, 0), /twice/);
    assert.equal(frontEnd.sharedObject(uuidBytes(uuid)), 0);
  });

  test("must lie in a region, in whole pages", async () => {
    const frontEnd = new FrontEnd([8192, 0]);
    for (const [region, offset, length] of [
      [0, 0, 0],
      [0, 0, 100],
      [0, 100, 4096],
      [0, -4096, 4096],
      [0, 4096, 8192],
      [0, 2 ** 53, 4096],
      [1, 0, 4096],
      [2, 0, 4096],
    ] as const) {
      const range = { offset, length };
      await assert.rejects(frontEnd.unmapShared(region, range), /Cannot map/, `${offset}`);
    }
    assert.throws(() => new FrontEnd([100]), /whole pages/);
    assert.throws(() => new FrontEnd(Array(257).fill(4096)), /at most 256 regions/);
  });

  test("names objects by UUIDs", () => {
    assert.deepEqual(
      uuidBytes("00112233-4455-6677-8899-AABBccddeeff"),
      Uint8Array.from({ length: 16 }, (_, i) => i * 17),
    );
    for (const text of ["", "00112233", "00112233-4455-6677-8899-aabbccddeefg"]) {
      assert.throws(() => uuidBytes(text), /as a UUID/);
    }
  });
});
