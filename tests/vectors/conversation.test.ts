/** Golden bytes: what is sent, and exactly what comes back. See parse.ts for the files' format. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { handlers } from "../../core/handlers/mod.ts";
import { type Conversation, parseConversations, type Step } from "./parse.ts";
import { type TestClient, TestServer } from "./server.ts";

const folder = new URL("./", import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith(".txt"));
const all = new Map(
  files.map((name) => [name, parseConversations(readFileSync(new URL(name, folder), "utf8"))]),
);

/** GET_FEATURES and its reply: whatever else was on its way comes before. */
const barrierOf = (features: string): readonly Step[] =>
  parseConversations(`## barrier
> 01000000 01000000 00000000
< 01000000 05000000 08000000 ${features}`)[0]!.steps;
const barrier = barrierOf("0104007505000000");
/** With ACCESS_PLATFORM. */
const iommuBarrier = barrierOf("0104007507000000");

/** Messages that have a handler. */
const handled = handlers.flatMap((handler, code) => (handler === undefined ? [] : [code]));

/** Files that need more than the main protocol has, by the beginning of their names. */
const special: Readonly<Record<string, () => Promise<TestServer>>> = {
  "draft-standalone": () => TestServer.start({ drafts: ["standalone"] }),
  "draft-vhost-pci": () => TestServer.start({ drafts: ["vhost-pci"] }),
  iotlb: () => TestServer.start({ iommu: true }),
  postcopy: () => TestServer.start({ postcopy: true }),
};

const kindOf = (file: string) => Object.keys(special).find((kind) => file === `${kind}.txt`);

describe("The golden vectors", () => converse(undefined, () => TestServer.start()));
for (const [kind, start] of Object.entries(special)) {
  describe(`The golden vectors of ${kind}`, () => converse(kind, start));
}

function converse(kind: string | undefined, start: () => Promise<TestServer>): void {
  let server: TestServer;
  before(async () => {
    server = await start();
  });
  after(() => server.stop());

  for (const [file, conversations] of all) {
    if (kindOf(file) !== kind) continue;
    for (const conversation of conversations) {
      test(`${file}: ${conversation.name}`, () => play(conversation));
    }
  }

  async function play({ steps }: Conversation): Promise<void> {
    await using client = server.connect();
    const ends = steps.at(-1)!.kind === "=";
    for (const step of ends ? steps : [...steps, ...(kind === "iotlb" ? iommuBarrier : barrier)])
      await take(step, client);
    if (!ends) assert.equal(client.pending(), 0, "nobody asked for more");
  }

  async function take(step: Step, client: TestClient): Promise<void> {
    const { kind, bytes, mask, words, line } = step;
    const receive = async (read: (length: number) => Promise<Uint8Array>) => {
      const got = await read(bytes.length);
      assert.equal(hex(got.map((byte, i) => byte & mask[i]!)), hex(bytes), `line ${line}`);
      assert.equal(client.descriptors(), words.length, `descriptors of line ${line}`);
    };
    switch (kind) {
      case ">":
        return client.send(bytes, words);
      case "<":
        return receive((length) => client.receive(length));
      case ">>":
        return client.sendOnChannel(bytes, words);
      case "<<":
        return receive((length) => client.receiveOnChannel(length));
      case "!":
        return server.act(words[0]!, words[1]);
      case "=":
        assert.equal(hex(await client.receive(1)), "", `line ${line}: the connection goes on`);
    }
  }
}

describe("The golden vectors", () => {
  test("cover every message that is handled, with and without its reply", () => {
    const steps = [...all.values()].flat().flatMap((conversation) => conversation.steps);
    const codes = (kind: string) =>
      new Set(steps.filter((step) => step.kind === kind).map(({ bytes }) => bytes[0]!));
    assert.deepEqual(
      [...codes(">")].filter((code) => handled.includes(code)).length,
      handled.length,
    );
    for (const code of handled)
      assert.ok(codes("<").has(code), `message ${code} is never answered`);
  });
});

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
