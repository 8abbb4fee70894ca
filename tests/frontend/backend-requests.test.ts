import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Header, U64 } from "../../core/payloads.ts";
import { createEventFd, type Fd, MessageBuffer } from "../../ffi/mod.ts";
import { BackEndRequests } from "../../frontend/mod.ts";
import { fdCount } from "../support/process-status.ts";

const buffer = new MessageBuffer(4096);

function send(to: Fd, request: number, flags: number, payload: Uint8Array, fds: Fd[] = []): void {
  Header.encode({ request, flags, size: payload.length }, buffer.data);
  buffer.data.set(payload, Header.size);
  const numbers = fds.map((fd) => fd.number);
  buffer.send(to, 0, Header.size + payload.length, numbers);
}

const nothing = new Uint8Array(0);
const CONFIG_CHANGE = 2;
const SHARED_OBJECT_ADD = 6;

describe("BackEndRequests", () => {
  it("receives a request and acknowledges it when that is asked for", () => {
    using requests = new BackEndRequests();
    send(requests.remote, CONFIG_CHANGE, 1, nothing);
    send(requests.remote, CONFIG_CHANGE, 9, nothing);
    assert.equal(requests.receive(0)?.row.name, "CONFIG_CHANGE_MSG");
    assert.equal(requests.receive(0)?.row.name, "CONFIG_CHANGE_MSG");
    assert.equal(requests.receive(0), null);
    const got = buffer.receive(requests.remote, 0, 100);
    assert.equal(got, Header.size + U64.size);
    assert.deepEqual(Header.decode(buffer.data), { request: CONFIG_CHANGE, flags: 5, size: 8 });
    assert.equal(U64.decode(buffer.data, Header.size).value, 0n);
  });

  it("answers as it is told, or not at all", () => {
    const answers = [3n, null];
    using requests = new BackEndRequests({ answer: () => answers.shift()! });
    send(requests.remote, CONFIG_CHANGE, 9, nothing);
    send(requests.remote, CONFIG_CHANGE, 9, nothing);
    requests.serve();
    assert.equal(buffer.receive(requests.remote, 0, 100), Header.size + U64.size);
    assert.equal(U64.decode(buffer.data, Header.size).value, 3n);
  });

  it("skips other requests than the one that is expected, and waits no longer than told", () => {
    using requests = new BackEndRequests();
    using passed = createEventFd();
    send(requests.remote, SHARED_OBJECT_ADD, 1, new Uint8Array(16), [passed]);
    send(requests.remote, CONFIG_CHANGE, 1, nothing);
    const before = fdCount(process.pid);
    assert.equal(requests.expect("CONFIG_CHANGE_MSG").payload.length, 0);
    assert.equal(fdCount(process.pid), before, "the skipped one's descriptor is closed");
    assert.throws(() => requests.expect("CONFIG_CHANGE_MSG", 10), { fault: "silent" });
  });

  it("refuses what is no request", () => {
    for (const [code, flags, size] of [
      [99, 1, 0],
      [CONFIG_CHANGE, 5, 0],
      [CONFIG_CHANGE, 2, 0],
      [CONFIG_CHANGE, 1, 8],
    ] as const) {
      using requests = new BackEndRequests();
      send(requests.remote, code, flags, new Uint8Array(size));
      assert.throws(() => requests.receive(0), { fault: "malformed" });
    }
  });

  it("tells when the back-end has closed the channel", () => {
    using requests = new BackEndRequests();
    send(requests.remote, CONFIG_CHANGE, 1, nothing);
    requests.passed();
    assert.ok(requests.receive(0));
    assert.throws(() => requests.receive(0), { fault: "closed" });
  });
});
