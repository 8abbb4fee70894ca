/** Messages that the protocol has and this version does not serve. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { handlers } from "../../core/handlers/mod.ts";
import { Header, payloadSizes, U64 } from "../../core/payloads.ts";
import { Flag, frontEndMessages, type MessageRow, ProtocolFeature } from "../../core/protocol.ts";
import { TestServer } from "./server.ts";

const message = (code: number, payload: Uint8Array) => {
  const bytes = new Uint8Array(Header.size + payload.length);
  const flags = Flag.VERSION | Flag.NEED_REPLY;
  Header.encode({ request: code, flags, size: payload.length }, bytes);
  bytes.set(payload, Header.size);
  return bytes;
};

const u64 = (value: bigint) => U64.encode({ value });

describe("A message that has no handler", () => {
  let server: TestServer;
  before(async () => {
    server = await TestServer.start();
  });
  after(() => server.stop());

  const rows: readonly MessageRow[] = Object.values(frontEndMessages);
  const unhandled = rows.filter(({ code }) => handlers[code] === undefined);

  async function negotiate() {
    const client = server.connect();
    server.records.length = 0;
    const { SET_PROTOCOL_FEATURES } = frontEndMessages;
    const features = u64(1n << BigInt(ProtocolFeature.REPLY_ACK));
    client.send(message(SET_PROTOCOL_FEATURES.code, features));
    assert.equal((await client.receive(20)).length, 20);
    return client;
  }

  /** The log's last complaint, as `message: reason`. */
  const complaint = () => {
    const [last] = server.records
      .filter(({ level }) => level !== "debug" && level !== "info")
      .slice(-1);
    return `${last?.message}: ${last?.fields["reason"]}`;
  };

  for (const row of unhandled) {
    const payload = new Uint8Array(payloadSizes[row.payload].min);
    const fds = Array<string>(row.fds[0]).fill("event");

    if (row.reply === "ack" || row.reply.refusal !== undefined) {
      const refusal = row.reply === "ack" ? 1n : row.reply.refusal!;
      test(`is refused, and the connection goes on: ${row.code} ${row.name}`, async () => {
        await using client = await negotiate();
        client.send(message(row.code, payload), fds);
        const answer = await client.receive(20);
        assert.deepEqual(Header.decode(answer), {
          request: row.code,
          flags: Flag.VERSION | Flag.REPLY,
          size: 8,
        });
        assert.equal(U64.decode(answer, Header.size).value, refusal);
        assert.match(complaint(), new RegExp(`^Refused ${row.name}: .*(not supported|needs)`));
        client.send(message(frontEndMessages.GET_FEATURES.code, new Uint8Array(0)));
        assert.equal((await client.receive(20)).length, 20);
      });
    } else {
      // A reply of the wrong shape could pass for success, so there is no way to refuse these.
      test(`ends the connection and says why: ${row.code} ${row.name}`, async () => {
        await using client = await negotiate();
        client.send(message(row.code, payload), fds);
        assert.equal((await client.receive(20)).length, 0);
        assert.match(complaint(), new RegExp(`^The connection ends: ${row.name} (is not|needs)`));
      });
    }
  }

  test("leaves the next connection alone", async () => {
    await using client = await negotiate();
    client.send(message(frontEndMessages.GET_FEATURES.code, new Uint8Array(0)));
    assert.equal((await client.receive(20)).length, 20);
  });
});
