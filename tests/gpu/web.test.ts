/** `--web`: what browsers are sent, and who is let in. */
import assert from "node:assert/strict";
import { createConnection, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { GpuDriver, GpuFormat, GpuResponse } from "../../frontend/mod.ts";
import { residentSize } from "../support/process-status.ts";
import { launcher, Program } from "../support/program.ts";
import { PIXEL, picture, Surface } from "./screen.ts";
import { eventually, urlOf, WebViewer } from "./viewer.ts";

const { OK } = GpuResponse;
const WINDOW = 8;

let program: Program;
let url = "";
before(() => {
  program = new Program([launcher("vhost-user-gpu"), "--socket-path=SOCKET", "--web=0"]);
  url = urlOf(program);
});
after(() => program[Symbol.dispose]());

const connect = () => GpuDriver.connect(program.socket);

/** A driver whose first output shows a picture. */
function shown(width: number, height: number, seed = 0) {
  const driver = connect();
  const surface = new Surface(driver, 1, width, height);
  surface.paint(picture(width, height, seed));
  surface.show();
  surface.setScanout();
  return { driver, surface };
}

/** What a server answers to lines of text, and its socket. */
function ask(path: string, headers: readonly string[]): Promise<[string, Socket]> {
  const { port } = new URL(url);
  const lines = [`GET ${path} HTTP/1.1`, ...headers, "", ""].join("\r\n");
  return new Promise((resolve, reject) => {
    const socket = createConnection(Number(port), "127.0.0.1", () => socket.write(lines));
    socket.once("error", reject);
    socket.once("data", (data) => {
      socket.pause();
      resolve([data.toString("latin1").split("\r\n")[0]!.split(" ")[1]!, socket]);
    });
  });
}

const upgrade = [
  "Upgrade: websocket",
  "Connection: Upgrade",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

describe("a viewer", () => {
  it("gets the whole picture, then what is flushed and nothing else", async () => {
    const { driver, surface } = shown(640, 480);
    using _ = driver;
    using viewer = await WebViewer.connect(url);
    await viewer.shows(picture(640, 480));
    assert.deepEqual(viewer.messages[0], { name: "HELLO", output: 0, numbers: [0, 0, 0, 0, 0] });
    viewer.messages.length = 0;
    surface.paint(picture(640, 480, 1));
    surface.show({ x: 10, y: 20, width: 30, height: 5 });
    await eventually(() => viewer.messages.length === 1, "an update");
    surface.show({ x: 630, y: 470, width: 10, height: 10 });
    await eventually(() => viewer.messages.length === 2, "another one");
    assert.deepEqual(viewer.messages, [
      { name: "PIXELS", output: 0, numbers: [10, 20, 30, 5, 0] },
      { name: "PIXELS", output: 0, numbers: [630, 470, 10, 10, 0] },
    ]);
    const mixed = picture(640, 480);
    for (const [x, y, width, height] of [
      [10, 20, 30, 5],
      [630, 470, 10, 10],
    ] as const) {
      for (let row = y; row < y + height; row++) {
        const at = (row * 640 + x) * PIXEL;
        mixed.set(picture(640, 480, 1).subarray(at, at + width * PIXEL), at);
      }
    }
    await viewer.shows(mixed);
  });

  it("is told of sizes, of several outputs, and of those that show nothing any more", async () => {
    using viewer = await WebViewer.connect(url);
    {
      using driver = connect();
      for (const [id, width, height] of [
        [1, 100, 60],
        [2, 64, 48],
        [3, 1280, 1024],
      ] as const) {
        const surface = new Surface(driver, id, width, height);
        surface.paint(picture(width, height, id));
        surface.show();
        surface.setScanout(0);
        await viewer.shows(picture(width, height, id));
      }
      assert.equal(driver.setScanout(5, 2, { x: 4, y: 8, width: 60, height: 40 }), OK);
      await eventually(() => viewer.screens.get(5)?.width === 60, "the second output");
      const whole = picture(64, 48, 2);
      const part = new Uint8Array(60 * 40 * PIXEL);
      for (let row = 0; row < 40; row++) {
        const at = ((row + 8) * 64 + 4) * PIXEL;
        part.set(whole.subarray(at, at + 60 * PIXEL), row * 60 * PIXEL);
      }
      await viewer.shows(part, 5);
    }
    await eventually(() => [0, 5].every((i) => viewer.screens.get(i)!.width === 0), "darkness");
  });

  it("gets the cursor, its picture only when that is new", async () => {
    const { driver } = shown(320, 200);
    using _ = driver;
    const image = new Surface(driver, 2, 64, 64, GpuFormat.B8G8R8A8);
    image.paint(picture(64, 64, 5));
    image.show();
    using viewer = await WebViewer.connect(url);
    driver.updateCursor(0, 2, 30, 40, 3, 4);
    await eventually(() => viewer.cursors.get(0) !== undefined, "the cursor");
    assert.deepEqual(viewer.cursors.get(0)!.numbers, [30, 40, 3, 4, 1]);
    assert.deepEqual(Buffer.from(viewer.cursors.get(0)!.picture!), Buffer.from(picture(64, 64, 5)));
    driver.moveCursor(0, 2, 31, 41);
    await eventually(() => viewer.cursors.get(0)!.numbers[0] === 31, "the cursor's new place");
    assert.equal(viewer.cursors.get(0)!.pictures, 1);
    driver.moveCursor(0, 0, 31, 41);
    await eventually(() => viewer.cursors.get(0)!.numbers[4] === 0, "the cursor to go");
    using late = await WebViewer.connect(url);
    driver.moveCursor(0, 2, 32, 42);
    await eventually(() => late.cursors.get(0)?.numbers[4] === 1, "the cursor to come again");
    assert.equal(late.cursors.get(0)!.picture!.length, 64 * 64 * PIXEL);
  });

  it("is one of two, who see the same", async () => {
    const { driver, surface } = shown(300, 200);
    using _ = driver;
    using first = await WebViewer.connect(url);
    await first.shows(picture(300, 200));
    using second = await WebViewer.connect(url);
    await second.shows(picture(300, 200));
    surface.paint(picture(300, 200, 1));
    surface.show();
    await Promise.all([first, second].map((viewer) => viewer.shows(picture(300, 200, 1))));
  });

  it("that is slow gets few pictures, and the last one", async () => {
    const { driver, surface } = shown(1280, 800);
    using _ = driver;
    using slow = await WebViewer.connect(url);
    await slow.shows(picture(1280, 800));
    slow.seeing = false;
    slow.messages.length = 0;
    using quick = await WebViewer.connect(url);
    for (let i = 1; i <= 30; i++) {
      surface.paint(picture(1280, 800, i % 3));
      surface.show();
    }
    surface.paint(picture(1280, 800, 9));
    surface.show();
    await quick.shows(picture(1280, 800, 9));
    assert.equal(slow.messages.length, WINDOW);
    slow.see();
    await slow.shows(picture(1280, 800, 9));
    // The rest of the first picture, and the last one, of 16 bands each.
    assert.ok(slow.messages.length <= WINDOW + 2 * 16, `${slow.messages.length} messages`);
  });

  it("that does not read stops nothing and costs nothing, even if it lies about it", async () => {
    const { driver, surface } = shown(1280, 800);
    using _ = driver;
    const path = new URL(url).pathname;
    const headers = ["Host: localhost", ...upgrade];
    const [status, deaf] = await ask(`${path}screen`, headers);
    const [, liar] = await ask(`${path}screen`, headers);
    assert.equal(status, "101");
    // A masked text frame whose key is 0.
    const seen = Buffer.from('....{"seen":true}', "latin1").fill(0, 0, 4);
    const frame = Buffer.concat([Buffer.of(0x81, 0x80 | (seen.length - 4)), seen]);
    surface.show();
    let before = 0;
    for (let i = 0; i < 60; i++) {
      surface.show();
      for (let j = 0; j < WINDOW; j++) liar.write(frame);
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (i === 20) before = residentSize(program.pid);
    }
    const grown = residentSize(program.pid) - before;
    assert.ok(grown < 16 * 1024, `${grown} KiB more`);
    using viewer = await WebViewer.connect(url);
    await viewer.shows(picture(1280, 800));
    deaf.destroy();
    liar.destroy();
  });

  it("leaves nothing behind", async () => {
    const { driver } = shown(1280, 800);
    using _ = driver;
    let before = 0;
    for (let i = 0; i < 200; i++) {
      using viewer = await WebViewer.connect(url);
      await eventually(() => viewer.messages.length > 2 * WINDOW, "the picture");
      if (i === 40) before = residentSize(program.pid);
    }
    // 160 of them have had 2 MiB each; the garbage collector takes its time.
    const grown = residentSize(program.pid) - before;
    assert.ok(grown < 128 * 1024, `${grown} KiB more`);
  });

  it("that talks nonsense is sent away, and the card works on", async () => {
    const { driver } = shown(64, 32);
    using _ = driver;
    for (const text of [
      "",
      "{",
      "null",
      "[]",
      '"seen"',
      '{"seen":1}',
      '{"key":"KeyA"}',
      '{"key":1,"down":true}',
      `{"key":"${"K".repeat(40)}","down":true}`,
      '{"button":5,"down":true}',
      '{"button":-1,"down":true}',
      '{"output":16,"x":0,"y":0}',
      '{"output":0,"x":1.1,"y":0}',
      '{"output":0,"x":0,"y":null}',
      '{"up":1e9,"right":0}',
      '{"up":0.5,"right":0}',
      " ".repeat(5000),
    ]) {
      using viewer = await WebViewer.connect(url);
      viewer.send(text);
      await eventually(() => viewer.closed, `the end after ${text.slice(0, 40)}`);
    }
    using hasty = await WebViewer.connect(url);
    for (let i = 0; i < 2 * WINDOW; i++) hasty.send({ seen: true });
    await eventually(() => hasty.closed, "the end of one that has seen what was not there");
    using viewer = await WebViewer.connect(url);
    await viewer.shows(picture(64, 32));
    // To look at only: what makes sense is ignored.
    viewer.send({ key: "KeyA", down: true });
    viewer.send({ output: 15, x: 0, y: 1 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(viewer.closed, false);
    assert.doesNotMatch(program.log, /failed/);
  });
});

describe("the server", () => {
  it("lets in who knows the token, and comes from our own page", async () => {
    const { pathname, port } = new URL(url);
    const wrong = pathname.replace(/.\/$/, (end) => (end === "A/" ? "B/" : "A/"));
    const host = `Host: 127.0.0.1:${port}`;
    const own = `Origin: http://127.0.0.1:${port}`;
    const rows: readonly (readonly [string, string, readonly string[]])[] = [
      ["200", pathname, [host]],
      ["200", pathname, ["Host: localhost:1"]],
      ["200", pathname, ["Host: [::1]:1"]],
      ["403", wrong, [host]],
      ["403", "/", [host]],
      ["403", "/screen", [host]],
      ["403", pathname.slice(0, -1), [host]],
      ["403", pathname, ["Host: rebound.example"]],
      ["403", pathname, [`Host: rebound.example:${port}`]],
      ["403", pathname, ["Host: 127.0.0.1.rebound.example"]],
      ["404", `${pathname}x`, [host]],
      ["404", `${pathname}?x`, [host]],
      ["101", `${pathname}screen`, [host, ...upgrade]],
      ["101", `${pathname}screen`, [host, own, ...upgrade]],
      ["403", `${wrong}screen`, [host, own, ...upgrade]],
      ["403", `${pathname}screen`, [`Host: rebound.example:${port}`, ...upgrade]],
      ["403", `${pathname}screen`, [host, "Origin: http://127.0.0.1:1", ...upgrade]],
      ["403", `${pathname}screen`, [host, "Origin: https://rebound.example", ...upgrade]],
      ["403", `${pathname}screen`, [host, "Origin: null", ...upgrade]],
      ["404", `${pathname}elsewhere`, [host, own, ...upgrade]],
    ];
    for (const [wanted, path, headers] of rows) {
      const [status, socket] = await ask(path, headers);
      socket.destroy();
      assert.equal(status, wanted, `${path} ${headers.slice(0, 2)}`);
    }
  });

  it("sends a page that takes nothing from elsewhere and cannot be framed", async () => {
    const answer = await fetch(url);
    const policy = answer.headers.get("content-security-policy")!;
    assert.match(policy, /default-src 'none'.*frame-ancestors 'none'/);
    assert.equal(answer.headers.get("referrer-policy"), "no-referrer");
    assert.doesNotMatch(await answer.text(), /https?:\/\//);
    const posted = await fetch(url, { method: "POST" });
    assert.equal(posted.status, 404);
    await posted.body?.cancel();
  });

  it("has room for 16 viewers, and for another when one leaves", async () => {
    const viewers: WebViewer[] = [];
    try {
      for (let i = 0; i < 16; i++) viewers.push(await WebViewer.connect(url));
      await assert.rejects(WebViewer.connect(url), /refused/);
      viewers.pop()![Symbol.dispose]();
      await new Promise((resolve) => setTimeout(resolve, 100));
      viewers.push(await WebViewer.connect(url));
    } finally {
      for (const viewer of viewers) viewer[Symbol.dispose]();
    }
  });

  it("has another token at each start, and is gone with the program", async () => {
    using other = new Program([
      launcher("vhost-user-gpu"),
      "--socket-path=SOCKET",
      "--web=[::1]:0",
    ]);
    const place = new URL(urlOf(other));
    assert.notEqual(place.pathname, new URL(url).pathname);
    assert.ok(place.pathname.length > 22);
    assert.equal(place.hostname, "[::1]");
    const answer = await fetch(place);
    assert.equal(answer.status, 200);
    await answer.body?.cancel();
    assert.ok(other.stop());
    await assert.rejects(fetch(place));
  });

  it("cannot be had at an address that makes no sense or is taken", async () => {
    const { port } = new URL(url);
    for (const [address, reason] of [
      ["", /Missing value|Cannot use/],
      ["x", /Cannot use the address "x": write it as 8080 or localhost:8080/],
      ["127.0.0.1:65536", /Cannot use the address/],
      ["::1:80", /Cannot use the address/],
      ["[127.0.0.1]:80", /Cannot use the address/],
      [port, /Cannot listen on 127\.0\.0\.1:\d+: .*in use/i],
      ["192.0.2.1:0", /Cannot listen on 192\.0\.2\.1:0: /],
    ] as const) {
      const command = [launcher("vhost-user-gpu"), "--socket-path=SOCKET", `--web=${address}`];
      using failing = new Program(command, { socket: null });
      assert.notEqual((await failing.exit).code, 0, address);
      assert.match(failing.log, reason);
    }
  });
});
