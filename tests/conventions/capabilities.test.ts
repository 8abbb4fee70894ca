import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Type } from "typebox";
import { Check } from "typebox/schema";
import { capabilitiesOf, capabilitiesSchema } from "../../conventions/capabilities.ts";
import { helpText } from "../../conventions/help.ts";
import { defineDevice, layout } from "../../core/mod.ts";
import { devices } from "../../devices/mod.ts";

function device(capabilities?: readonly string[]) {
  return defineDevice({
    type: "block",
    name: "test",
    id: 2,
    summary: "A device for tests",
    options: Type.Object({
      blkFile: Type.String({ description: "What to serve" }),
      readOnly: Type.Boolean({ default: false, description: "Refuse writes" }),
      grab: Type.Boolean({ default: true, description: "Take the device for this program alone" }),
      numQueues: Type.Integer({ default: 8, minimum: 1, maximum: 256 }),
      port: Type.Array(Type.String(), { description: "A peer" }),
    }),
    ...(capabilities === undefined ? {} : { capabilities }),
    features: {},
    config: layout(Type.Object({})),
    queues: [{ name: "request" }],
    open: () => ({ config: {}, device: {} }),
  });
}

describe("capabilitiesOf()", () => {
  it("lists declared capabilities that are options", () => {
    assert.deepEqual(capabilitiesOf(device(["blk-file", "read-only", "imaginary"])), {
      type: "block",
      features: ["blk-file", "read-only"],
    });
    assert.deepEqual(capabilitiesOf(device()).features, []);
  });

  it("lists the parts of the protocol that are declared, if any are", () => {
    const declared = { ...device(), protocol: ["DEVICE_STATE"], sharedMemory: [4096] } as const;
    const capabilities = capabilitiesOf(declared);
    assert.deepEqual(capabilities.protocol, ["DEVICE_STATE", "SHMEM"]);
    assert.equal(Check(capabilitiesSchema, capabilities), true);
    assert.equal("protocol" in capabilitiesOf(device()), false);
  });

  it("fits its schema for every device", async () => {
    for (const load of Object.values(devices)) {
      const capabilities = capabilitiesOf(await load());
      assert.equal(Check(capabilitiesSchema, capabilities), true);
    }
  });

  it("has the features of vhost-user.json for a block device", async () => {
    const { features } = capabilitiesOf(await devices.blk!());
    assert.deepEqual([...features].sort(), ["blk-file", "read-only"]);
  });
});

describe("helpText()", () => {
  const lines = helpText(device()).split("\n");
  const lineOf = (option: string) => lines.find((line) => line.trim().startsWith(option));

  it("shows how to start the program", () => {
    assert.equal(lines[0], "Usage: vhost-user-test --socket-path=PATH [OPTION...]");
    assert.ok(lines.includes("A device for tests"));
  });

  it("shows each option with its description, range and default", () => {
    assert.match(lineOf("--blk-file=FILE")!, /What to serve \(required\)$/);
    assert.match(lineOf("--read-only")!, /Refuse writes$/);
    assert.match(lineOf("--no-grab")!, /\(on by default\)$/);
    assert.match(lineOf("--num-queues=N")!, /\(1 to 256; default 8\)$/);
    assert.match(lineOf("--port=PORT")!, /A peer \(may be repeated\)$/);
    assert.match(lineOf("--fd=FDNUM")!, /inherited socket/);
    assert.match(lineOf("--log-format=text|json")!, /default text/);
  });

  it("fits into 100 columns", () => {
    assert.deepEqual(
      lines.filter((line) => line.length > 100),
      [],
    );
  });
});
