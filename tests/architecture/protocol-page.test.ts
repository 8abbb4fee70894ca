import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { backEndMessages, frontEndMessages, ProtocolFeature } from "../../core/protocol.ts";
import { protocolTables, renderPage } from "../../scripts/protocol-page.ts";
import { read } from "./sources.ts";

const page = read("docs/protocol.md");

describe("docs/protocol.md", () => {
  it("is what npm run docs:protocol makes of the protocol's tables", () => {
    assert.equal(renderPage(page), page);
  });

  it("has a row for each message and each protocol feature", () => {
    const tables = protocolTables();
    const rows = (name: string) => tables[name]!.split("\n").length - 2;
    assert.equal(rows("protocol features"), Object.keys(ProtocolFeature).length);
    assert.equal(rows("front-end messages"), Object.keys(frontEndMessages).length);
    assert.equal(rows("back-end messages"), Object.keys(backEndMessages).length);
  });

  it("tells how each feature is offered", () => {
    const { "protocol features": features } = protocolTables();
    assert.match(features!, /\| 3 \| REPLY_ACK \| always \|/);
    assert.match(features!, /\| 19 \| DEVICE_STATE \| when the device has `save` and `load` \|/);
    assert.match(features!, /\| 17 \| XEN_MMAP \| never: .* \| only our own front-end \|/);
  });
});
