/** Drafts of the protocol, switched on by an option of a program. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { drafts } from "../../core/drafts.ts";
import { has } from "../../core/features.ts";
import { BackendSpecs, U64 } from "../../core/payloads.ts";
import { frontEndMessages, type MessageRow, ProtocolFeature } from "../../core/protocol.ts";
import { BlkDriver, Connection, protocolFeatures } from "../../frontend/mod.ts";
import { launch } from "../conventions/run.ts";
import { MIB, serveBlk, verifyDriver } from "../support/blk.ts";

const M = frontEndMessages;
const u64 = (value: bigint) => U64.encode({ value });

function offered(connection: Connection): bigint {
  return U64.decode(connection.request(M.GET_PROTOCOL_FEATURES).payload).value;
}

describe("a program with a draft of the protocol", () => {
  it("tells what it is, with --draft=standalone", () => {
    using program = serveBlk("ram:16M", ["--draft=standalone"]);
    {
      using connection = Connection.connect(program.socket);
      const { bit, messages } = drafts.standalone;
      assert.ok(has(offered(connection), bit));
      const wanted = protocolFeatures | (1n << BigInt(bit));
      connection.send(M.SET_PROTOCOL_FEATURES, u64(wanted & offered(connection)));
      const row: MessageRow = messages[0].row;
      assert.deepEqual(BackendSpecs.decode(connection.request(row).payload), {
        deviceId: 2,
        configSize: 96,
        minQueues: 1,
        maxQueues: 128,
      });
    }
    using driver = BlkDriver.connect(program.socket);
    verifyDriver(driver, { blocks: 64, mixed: 100 });
    assert.equal(driver.size(), 16 * MIB);
  });

  it("repeats the features that are accepted, with --draft=vhost-pci", () => {
    using program = serveBlk("ram:16M", ["--draft=vhost-pci", "--draft=standalone"]);
    {
      using connection = Connection.connect(program.socket);
      const { bit } = drafts["vhost-pci"];
      connection.send(M.SET_PROTOCOL_FEATURES, u64(1n << BigInt(bit)));
      connection.send(M.SET_FEATURES, u64(0x1_7000_0000n));
      const message = connection.receiveRaw(20)!;
      assert.deepEqual([...message.subarray(0, 12)], [2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
      assert.equal(U64.decode(message, 12).value, 0x1_7000_0000n);
    }
    using driver = BlkDriver.connect(program.socket);
    verifyDriver(driver, { blocks: 64, mixed: 100 });
  });

  it("offers neither without the option, and knows no others", () => {
    using program = serveBlk("ram:16M");
    using connection = Connection.connect(program.socket);
    for (const { bit } of Object.values(drafts)) assert.ok(!has(offered(connection), bit));
    assert.equal(ProtocolFeature.NET_MTU, drafts["vhost-pci"].bit);
    assert.equal(ProtocolFeature.SHARED_OBJECT, drafts.standalone.bit);
    const { status, stderr } = launch("vhost-user-blk", ["--blk-file=ram:16M", "--draft=other"]);
    assert.equal(status, 2);
    assert.match(stderr, /Cannot use --draft=other: expected .*standalone/);
  });
});
