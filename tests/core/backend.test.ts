/** A device between its host and its front-ends: opening, callbacks, config space, closing. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, describe, test } from "node:test";
import { Type } from "typebox";
import { type Backend, openBackend } from "../../core/backend.ts";
import { type Device, defineDevice, type Host } from "../../core/device.ts";
import { ProtocolError } from "../../core/errors.ts";
import { bitsOf } from "../../core/features.ts";
import { layout, le32, raw } from "../../core/layout.ts";
import { Log, type LogRecord } from "../../core/log.ts";
import {
  connectUnix,
  type Fd,
  listenUnix,
  MessageBuffer,
  signal,
  socketPair,
} from "../../ffi/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { until } from "./until.ts";
import { useLoop } from "./use-loop.ts";

const config = layout(Type.Object({ level: le32(), rest: raw(4) }));

describe("A back-end", () => {
  const suite = useLoop();
  let records: LogRecord[];
  let events: string[];
  let backend: Backend;
  let host: Host;
  let device: Device;
  const folder = mkdtempSync(join(tmpdir(), "ringside-backend-"));

  after(() => rmSync(folder, { recursive: true }));
  beforeEach(() => {
    records = [];
    events = [];
    device = {
      reset: () => void events.push("reset"),
      disconnected: () => void events.push("disconnected"),
      reload: () => void events.push("reload"),
      [Symbol.dispose]: () => void events.push("dispose"),
    };
  });
  afterEach(() => backend?.close());

  async function open(setUp: (host: Host) => void = () => {}): Promise<Backend> {
    const definition = defineDevice({
      type: "rng",
      id: 4,
      summary: "A device of a test",
      options: Type.Object({}),
      features: { FIRST: 0, SECOND: 1 },
      config,
      queues: [{ name: "only" }],
      open: (_, lent) => {
        host = lent as Host;
        setUp(host);
        return { config: { level: 5 }, device, offer: ["SECOND"] };
      },
    });
    const log = new Log((record) => records.push(record), "debug");
    backend = await openBackend(definition, {}, { loop: suite.current, log });
    return backend;
  }

  const disconnect = (client: Fd) => {
    client.close();
    return until(() => events.includes("disconnected"), "the session's end");
  };

  const level = () => config.decode(backend.readConfig()).level;
  const complaints = () => records.filter((record) => record.level === "error");

  test("offers what its device offers, beside the ring features of all", async () => {
    await open();
    assert.deepEqual(bitsOf(backend.offered), [1, 24, 26, 28, 29, 30, 32, 34]);
  });

  test("passes on why its device cannot be opened", async () => {
    const refusal = open(() => {
      throw new Error("Cannot find the disk");
    });
    await assert.rejects(refusal, /^Error: Cannot find the disk$/);
  });

  test("refuses a config space that no message can carry", async () => {
    const definition = defineDevice({
      type: "rng",
      id: 4,
      summary: "Too much to say",
      options: Type.Object({}),
      features: {},
      config: layout(Type.Object({ all: raw(257) })),
      queues: [],
      open: () => ({ config: {}, device: {} }),
    });
    await assert.rejects(
      openBackend(definition, {}, { loop: suite.current, log: new Log() }),
      /257 bytes/,
    );
  });

  test("shows the config space as the device has changed it, before and after it was open", async () => {
    await open((host) => host.updateConfig({ level: 6 } as object));
    assert.equal(level(), 6);
    host.updateConfig({ level: 7 } as object);
    assert.equal(level(), 7);
    device.readConfig = (bytes) => bytes.fill(9);
    assert.equal(level(), 0x09090909);
    delete device.readConfig;
    assert.equal(level(), 7, "a last-moment change is for one reader");
    assert.equal(backend.readConfig().length, 256);
  });

  test("lets the device decide what may be written", async () => {
    await open();
    assert.throws(() => backend.writeConfig(0, Uint8Array.of(1), false), /is read-only/);
    const written: number[][] = [];
    device.writeConfig = (at, data) => void written.push([at, ...data]);
    backend.writeConfig(7, Uint8Array.of(1), false);
    assert.throws(() => backend.writeConfig(7, Uint8Array.of(1, 2), false), ProtocolError);
    backend.writeConfig(0, Uint8Array.of(5, 0), true);
    assert.deepEqual(
      written,
      [[7, 1]],
      "a migration that changes nothing is not the device's business",
    );
    backend.writeConfig(0, Uint8Array.of(4), true);
    assert.deepEqual(written.at(-1), [0, 4]);
  });

  test("goes on when a callback of its device throws", async () => {
    const { reader, writer } = createPipe();
    let calls = 0;
    const fail = () => {
      calls++;
      throw new Error("on purpose");
    };
    await open((host) => {
      const timer = host.every(1, () => {
        timer[Symbol.dispose]();
        fail();
      });
      const watch = host.watch(reader.number, () => {
        watch[Symbol.dispose]();
        fail();
      });
    });
    device.reload = fail;
    signal(writer.number);
    await until(() => calls === 2);
    backend.reload();
    assert.equal(calls, 3);
    assert.equal(complaints().length, 3);
    assert.match(String(complaints()[0]!.fields["reason"]), /on purpose/);
    reader.close();
    writer.close();
  });

  test("runs a task once after a time, unless it is disposed", async () => {
    let calls = 0;
    await open((lent) => {
      lent.after(1, () => calls++);
      lent.after(1, () => calls++)[Symbol.dispose]();
      lent.after(1, () => {
        throw new Error("on purpose");
      });
    });
    await until(() => calls === 1 && complaints().length === 1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(calls, 1);
  });

  test("logs that its device cannot go on when nobody else is told", async () => {
    await open();
    host.fail(new Error("It broke"));
    assert.deepEqual(
      complaints().map(({ message }) => message),
      ["The device cannot go on: It broke"],
    );
  });

  test("passes on that the operator wants a fresh look", async () => {
    await open();
    backend.reload();
    assert.deepEqual(events, ["reload"]);
  });

  test("serves one front-end at a time, and the next one afterwards", async () => {
    await open();
    for (let i = 0; i < 3; i++) {
      const [client, server] = socketPair();
      let ended = false;
      backend.serve(server, () => {
        ended = true;
      });
      const [other, second] = socketPair();
      assert.throws(() => backend.serve(second), /second front-end/);
      assert.equal(second.closed, true);
      other.close();
      assert.equal(ended, false);
      await disconnect(client);
      assert.equal(ended, true);
      events.length = 0;
    }
  });

  test("lets front-ends wait in the listener's backlog", async () => {
    await open();
    const path = join(folder, "socket");
    backend.listen(listenUnix(path));
    const [first, second] = [connectUnix(path), connectUnix(path)];
    const connected = () => records.filter(({ message }) => message === "A front-end connected");
    await until(() => connected().length === 1);
    await disconnect(first);
    await until(() => connected().length === 2);
    const ask = new MessageBuffer(20);
    ask.data.set([1, 0, 0, 0, 1]);
    ask.send(second, 0, 12);
    await until(() => ask.receive(second, 0, 20) === 20, "an answer to the second one");
    second.close();
    assert.ok(existsSync(path), "the path is its maker's to remove");
  });

  test("closes its device once, after the session", async () => {
    await open();
    const [client, server] = socketPair();
    backend.serve(server);
    const closing = backend.close();
    assert.equal(backend.close(), closing);
    await closing;
    assert.deepEqual(events, ["disconnected", "dispose"]);
    const [, late] = socketPair();
    assert.throws(() => backend.serve(late));
    client.close();
  });
});
