/**
 * Both sides of an input device of the guest, in the guest.
 *   evdev.js serve ARGUMENT...                        `vhost-user-input ARGUMENT...`
 *   evdev.js drive SOCKET DEVICE COMMANDS REPLIES     a driver; prints what it found, as JSON
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { runProgram } from "../../../conventions/program.ts";
import { input } from "../../../devices/input/mod.ts";
import { errno, libc, openFile } from "../../../ffi/mod.ts";
import { InputDriver, type InputEvent, InputSelect } from "../../../frontend/mod.ts";

const EVIOCGRAB = 0x40044590;
const O_RDONLY = 0;
const timeout = 30_000;

const triples = (events: readonly InputEvent[]) =>
  events.map(({ type, code, value }) => `${type} ${code} ${value}`);

/** The error of grabbing a device, or 0. */
function grab(path: string): number {
  const fd = openFile(path, O_RDONLY);
  try {
    return libc.ioctl(fd.number, EVIOCGRAB, new Uint8Array(new ArrayBuffer(4))) < 0 ? errno() : 0;
  } finally {
    fd.close();
  }
}

async function replied(path: string, line: string): Promise<boolean> {
  for (const start = performance.now(); performance.now() - start < timeout; ) {
    if (readFileSync(path, "utf8").split("\n").includes(line)) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}

/** Reads up to the packet in which a key goes down and stays down. Returns the keys that are down. */
function readUntilPressed(driver: InputDriver, wanted: number): Set<number> {
  const down = new Set<number>();
  for (;;) {
    for (const { type, code, value } of driver.read(1, timeout)) {
      if (type === 1 && value === 1) down.add(code);
      if (type === 1 && value === 0) down.delete(code);
    }
    if (down.has(wanted) && driver.quiet(500)) return down;
  }
}

async function drive(socket: string, device: string, commands: string, replies: string) {
  using driver = InputDriver.connect(socket, { timeout });
  const describe = (select: number, subsel = 0) => [...driver.describe(select, subsel)];
  const fifo = openSync(commands, "w");
  const emit = (...lines: string[]) => writeSync(fifo, `${lines.join("\n")}\n`);
  const keyboard = describe(InputSelect.EVENT_BITS, 17).length > 0;
  const found: Record<string, unknown> = {
    name: new TextDecoder().decode(driver.describe(InputSelect.NAME)),
    ids: describe(InputSelect.IDS),
    properties: describe(InputSelect.PROPERTIES),
    bits: Object.fromEntries(
      Array.from(
        { length: 32 },
        (_, type) => [type, describe(InputSelect.EVENT_BITS, type)] as const,
      ).filter(([, map]) => map.length > 0),
    ),
    axes: Object.fromEntries(
      Array.from({ length: 64 }, (_, axis) => [axis, describe(InputSelect.AXIS, axis)] as const)
        .filter(([, info]) => info.length > 0)
        .map(([axis, info]) => [axis, [...new Int32Array(Uint8Array.from(info).buffer)]]),
    ),
    grabError: grab(device),
  };
  if (keyboard) {
    const press = (key: number) => [`4 4 ${key}`, `1 ${key} 1`, "0 0 0", `1 ${key} 0`, "0 0 0"];
    const keys = Array.from({ length: 64 }, (_, i) => i + 1);
    found.keys = keys.every((key) => {
      emit(...press(key));
      return triples(driver.read(5)).join() === press(key).join();
    });
    // More than the kernel keeps for a slow reader: what it drops is made up for.
    emit(...keys.flatMap(press), ...keys.flatMap(press), "1 42 1", "0 0 0");
    found.held = [...readUntilPressed(driver, 42)];
    driver.send({ type: 17, code: 1, value: 1 });
    found.led = await replied(replies, "17 1 1");
    driver.send({ type: 20, code: 0, value: 300 });
  } else {
    const packet = ["3 47 1", "3 57 7", "3 53 4000", "3 54 1000", "1 330 1", "0 0 0"];
    emit(...packet);
    found.packet = triples(driver.read(6));
  }
  // Nobody writes to the FIFO any more: the device goes.
  closeSync(fifo);
  found.last = triples(driver.read(keyboard ? 3 : 4));
  console.log(JSON.stringify(found));
}

const [what, ...args] = process.argv.slice(2);
if (what === "serve") process.exit(await runProgram(input, args));
await drive(args[0]!, args[1]!, args[2]!, args[3]!);
process.exit(0);
