/** The switch: four guests in one program, two VLANs, and a tap as the way out. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { MacTable } from "../../devices/net/mac-table.ts";
import { NetDriver, type NetOptions, sendRarp } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { launcher, Program } from "../support/program.ts";
import { broadcast, makeFrame } from "./frames.ts";
import { Namespace, tapProblem } from "./namespace.ts";
import { arpRequest } from "./packets.ts";

const mac = (last: number): number[] => [2, 0, 0, 0, 0, last];

/** Frames that came to a driver by now. */
function received(driver: NetDriver): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (;;) {
    const got = driver.pair.receive(frames.length === 0 ? 100 : 20);
    if (got === null) return frames;
    frames.push(got.data);
  }
}

class SwitchProgram implements Disposable {
  readonly program: Program;
  readonly sockets: readonly string[];
  readonly folder: Folder = new Folder();

  constructor(count: number, args: readonly string[], prefix: readonly string[] = []) {
    this.sockets = Array.from({ length: count }, (_, i) => this.folder.at(`s${i}`));
    this.program = new Program(
      [
        ...prefix,
        launcher("vhost-user-net"),
        "--switch",
        ...this.sockets.map((socket) => `--socket-path=${socket}`),
        ...args,
      ],
      { socket: this.sockets.at(-1)! },
    );
  }

  connect(i: number, options?: NetOptions): NetDriver {
    return NetDriver.connect(this.sockets[i]!, options);
  }

  [Symbol.dispose](): void {
    this.program[Symbol.dispose]();
    this.folder[Symbol.dispose]();
  }
}

describe("the switch", () => {
  let own: SwitchProgram;
  let guests: NetDriver[];
  before(() => {
    own = new SwitchProgram(4, ["--vlan=1", "--vlan=1", "--vlan=1", "--vlan=2", "--ageing=2"]);
    guests = [0, 1, 2, 3].map((i) => own.connect(i, { ringSize: 64 }));
  });
  after(() => {
    for (const guest of guests) guest[Symbol.dispose]();
    own[Symbol.dispose]();
  });
  const counts = () => guests.map((guest) => received(guest).length);

  it("floods what it does not know, within the VLAN", () => {
    guests[0]!.pair.send(makeFrame(100, 1, broadcast, mac(10)));
    assert.deepEqual(counts(), [0, 1, 1, 0]);
    guests[3]!.pair.send(makeFrame(100, 1, broadcast, mac(13)));
    assert.deepEqual(counts(), [0, 0, 0, 0]);
    guests[0]!.pair.send(makeFrame(100, 1, [0x33, 0x33, 0, 0, 0, 1], mac(10)));
    assert.deepEqual(counts(), [0, 1, 1, 0]);
  });

  it("sends what it knows to one port, byte for byte", () => {
    const frame = makeFrame(9000, 5, mac(10), mac(11));
    guests[1]!.pair.send(frame);
    assert.deepEqual(received(guests[0]!), [frame]);
    assert.deepEqual(counts(), [0, 0, 0, 0]);
    // The same address in another VLAN is another one.
    guests[3]!.pair.send(makeFrame(100, 1, mac(10), mac(13)));
    assert.deepEqual(counts(), [0, 0, 0, 0]);
    // And what is for the port it came by stays there.
    guests[0]!.pair.send(makeFrame(100, 1, mac(10), mac(10)));
    assert.deepEqual(counts(), [0, 0, 0, 0]);
  });

  it("follows an address that moves, also by RARP", () => {
    guests[2]!.pair.send(makeFrame(60, 1, mac(99), mac(10)));
    counts();
    guests[1]!.pair.send(makeFrame(60, 1, mac(10), mac(11)));
    assert.deepEqual(counts(), [0, 0, 1, 0]);
    sendRarp(guests[0]!.frontend.connection, Uint8Array.from(mac(10)));
    assert.deepEqual(counts(), [0, 1, 1, 0]);
    guests[1]!.pair.send(makeFrame(60, 1, mac(10), mac(11)));
    assert.deepEqual(counts(), [1, 0, 0, 0]);
  });

  it("does not hold up others for a guest that takes nothing", () => {
    guests[2]![Symbol.dispose]();
    guests[2] = own.connect(2, { buffers: 0 });
    for (let i = 0; i < 300; i++) guests[0]!.pair.send(makeFrame(60, i, broadcast, mac(10)));
    // As many as it has buffers for.
    assert.deepEqual(counts(), [0, 64, 0, 0]);
    guests[2]!.pair.fill(8);
    guests[2]!.frontend.barrier();
    guests[0]!.pair.send(makeFrame(60, 7, broadcast, mac(10)));
    assert.deepEqual(counts(), [0, 1, 1, 0]);
  });

  it("forgets a guest that is gone", () => {
    guests[0]![Symbol.dispose]();
    guests[0] = own.connect(0);
    guests[1]!.pair.send(makeFrame(60, 1, mac(10), mac(11)));
    assert.deepEqual(counts(), [1, 0, 1, 0]);
  });

  it("tells what it has carried", () => {
    own.program.signal("SIGHUP");
    const end = performance.now() + 5000;
    const lines = () => own.program.log.match(/Frames so far \(.*socket=.*s1.*\)/g) ?? [];
    while (lines().length === 0) assert.ok(performance.now() < end, own.program.log);
    assert.match(lines().at(-1)!, /rxDropped=236/);
  });
});

describe("the switch's way out", { skip: tapProblem() ?? false }, () => {
  it("is for the guests of VLAN 0", () => {
    using namespace = new Namespace();
    namespace.tap("up0", "10.78.0.1/24");
    using own = new SwitchProgram(
      3,
      ["--tap=up0", "--vlan=0", "--vlan=0", "--vlan=7"],
      [...namespace.command()],
    );
    using first = own.connect(0);
    using second = own.connect(1);
    using other = own.connect(2);
    const asker = { mac: mac(20), ip: [10, 78, 0, 2] };
    const request = arpRequest(asker, [10, 78, 0, 1]);
    first.pair.send(request);
    const isReply = (frame: Uint8Array) => frame[12] === 8 && frame[13] === 6 && frame[21] === 2;
    const answers = received(first).filter(isReply);
    assert.equal(answers.length, 1);
    assert.deepEqual([...answers[0]!.slice(0, 6)], mac(20));
    const overheard = received(second);
    assert.ok(overheard.some((frame) => Buffer.compare(frame.slice(0, 42), request) === 0));
    assert.equal(overheard.filter(isReply).length, 0);
    assert.deepEqual(received(other), []);
  });
});

describe("the table of addresses", () => {
  it("finds what it has learned, until it is too old", () => {
    const table = new MacTable(3, 10);
    table.learn(1, 2, 0);
    table.learn(1 | (5 << 16), 2, 1);
    assert.deepEqual(
      [table.find(1, 2), table.find(1 | (5 << 16), 2), table.find(2, 1)],
      [0, 1, -1],
    );
    table.now = 10;
    assert.equal(table.find(1, 2), 0);
    table.learn(1, 2, 2);
    table.now = 11;
    assert.deepEqual([table.find(1, 2), table.find(1 | (5 << 16), 2)], [2, -1]);
    table.forget(2);
    assert.equal(table.find(1, 2), -1);
  });

  it("lets no port take away what others have", () => {
    const table = new MacTable(2, 10);
    for (let i = 0; i < 200; i++) table.learn(7, i * 1000, 0);
    const before = Array.from({ length: 200 }, (_, i) => table.find(7, i * 1000));
    assert.ok(before.every((port) => port === 0));
    for (let i = 0; i < 100_000; i++) table.learn(9, i, 1);
    let held = 0;
    for (let i = 0; i < 100_000; i++) if (table.find(9, i) === 1) held++;
    assert.ok(held > 500 && held <= 1024, `${held} addresses of one port`);
    for (let i = 0; i < 200; i++) assert.equal(table.find(7, i * 1000), 0);
  });
});
