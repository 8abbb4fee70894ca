/** `serve`, in a program that goes on doing other things. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, it } from "node:test";
import { connectUnix, listenUnix, socketPair } from "../../ffi/mod.ts";
import { type Device, defineDevice, Log, type LogRecord, layout, serve, Type } from "../../mod.ts";
import { Folder } from "../support/folder.ts";
import { askFeatures } from "./talk.ts";

function makeDevice(device: Device = {}, seen: unknown[] = []) {
  return defineDevice({
    type: "rng",
    id: 4,
    summary: "A device for tests",
    options: Type.Object({
      size: Type.Integer({ default: 7, minimum: 1 }),
      fail: Type.Optional(Type.String()),
    }),
    features: { ODD: 5 },
    config: layout(Type.Object({})),
    queues: [{ name: "request" }],
    open(options) {
      seen.push(options);
      if (options.fail !== undefined) throw new Error(options.fail);
      return { config: {}, device };
    },
  });
}

describe("serve()", () => {
  it("serves until its signal, then disposes the device and removes the socket", async () => {
    using folder = new Folder();
    const end = new AbortController();
    const events: string[] = [];
    const device = makeDevice({ [Symbol.dispose]: () => events.push("disposed") });
    const { promise: ready, resolve } = Promise.withResolvers<void>();
    const socketPath = folder.at("s");
    const served = serve(device, { socketPath, signal: end.signal, ready: resolve, events: true });
    await ready;
    using connection = connectUnix(socketPath);
    assert.equal(((await askFeatures(connection)) >> 5n) & 1n, 1n);
    end.abort();
    await served;
    assert.deepEqual(events, ["disposed"]);
    assert.equal(existsSync(socketPath), false);
  });

  it("serves a connected descriptor until its end", async () => {
    const [ours, theirs] = socketPair();
    const fd = theirs.duplicate().number;
    theirs.close();
    const served = serve(makeDevice(), { fd, events: true });
    await askFeatures(ours);
    ours.close();
    await served;
  });

  it("leaves the event loop to others, and without `events` at least a turn now and then", async () => {
    using folder = new Folder();
    for (const events of [true, false]) {
      let turns = 0;
      const timer = setInterval(() => turns++, 5);
      const signal = AbortSignal.timeout(600);
      await serve(makeDevice(), { socketPath: folder.at("s"), signal, events });
      clearInterval(timer);
      assert.ok(turns > 0);
    }
  });

  it("completes options and checks them", async () => {
    const seen: unknown[] = [];
    const device = makeDevice({}, seen);
    const socketPath = "/proc/nonexistent/s";
    await assert.rejects(
      serve(device, { socketPath }),
      /Cannot listen on "\/proc\/nonexistent\/s"/,
    );
    assert.deepEqual(seen, [{ size: 7 }]);
    await assert.rejects(serve(device, { socketPath, options: { size: 0 } }), {
      name: "TypeError",
      message: "Cannot use size=0: expected a whole number of at least 1",
    });
  });

  it("needs exactly one endpoint", async () => {
    const device = makeDevice();
    await assert.rejects(serve(device, {} as never), /give either socketPath or fd/);
    const both = { socketPath: "/x", fd: 3 } as never;
    await assert.rejects(serve(device, both), /give either socketPath or fd/);
  });

  it("throws what opening throws, with nothing left behind", async () => {
    using folder = new Folder();
    const socketPath = folder.at("s");
    const failing = serve(makeDevice(), { socketPath, options: { fail: "Cannot open it" } });
    await assert.rejects(failing, { message: "Cannot open it" });
    assert.equal(existsSync(socketPath), false);
  });

  it("disposes the device when the socket cannot be had", async () => {
    using folder = new Folder();
    using _live = listenUnix(folder.at("s"));
    let disposed = 0;
    const device = makeDevice({ [Symbol.dispose]: () => disposed++ });
    await assert.rejects(serve(device, { socketPath: folder.at("s") }), /another program/);
    assert.equal(disposed, 1);
  });

  it("does nothing when its signal was aborted before", async () => {
    using folder = new Folder();
    let disposed = 0;
    const device = makeDevice({ [Symbol.dispose]: () => disposed++ });
    await serve(device, { socketPath: folder.at("s"), signal: AbortSignal.abort() });
    assert.equal(existsSync(folder.at("s")), false);
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(disposed, 1);
  });

  it("ends with the reason why its device cannot go on, with nothing left behind", async () => {
    using folder = new Folder();
    const socketPath = folder.at("s");
    for (const [events, when] of [
      [true, 5],
      [false, 5],
      [false, 0],
    ] as const) {
      const disposed: string[] = [];
      const device = defineDevice({
        ...makeDevice(),
        open(_, host) {
          const end = () => host.fail(new Error("It was unplugged"));
          if (when === 0) end();
          else host.after(when, end);
          return { config: {}, device: { [Symbol.dispose]: () => disposed.push("disposed") } };
        },
      });
      await assert.rejects(serve(device, { socketPath, events }), { message: "It was unplugged" });
      assert.equal(existsSync(socketPath), false);
      assert.deepEqual(disposed, ["disposed"]);
    }
  });

  it("logs to the log it is given, and nowhere else", async () => {
    using folder = new Folder();
    const records: LogRecord[] = [];
    const log = new Log((record) => records.push(record));
    const signal = AbortSignal.timeout(20);
    await serve(makeDevice(), { socketPath: folder.at("s"), signal, log, events: true });
    assert.deepEqual(
      records.map(({ message }) => message),
      [`Listening on ${folder.at("s")}`],
    );
  });
});
