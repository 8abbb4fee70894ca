/** vhost-user-input under QEMU, whose front-end has event rings of 4: every kind, played live. */
import assert from "node:assert/strict";
import { createConnection } from "node:net";
import { join } from "node:path";
import { kinds } from "../../devices/input/mod.ts";
import { buildTool } from "../tools/build.ts";
import { startDevice } from "./back-end.ts";
import { withPrograms } from "./extra-files.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { scenario } from "./scenario.ts";
import { sleep, within } from "./wait.ts";

const { folder, step, owns, end } = scenario("vhost-user-input under QEMU");
const notWithStandIn = "it serves no input";
let guest: Guest;
/** Event devices of the guest by kind. */
const paths = new Map<string, string>();

/** Has commands carried out. Returns the lines that come back up to `until`. */
function play(kind: string, lines: readonly string[], until = "done"): Promise<string[]> {
  const socket = createConnection(join(folder, `${kind}.listen`));
  const { promise, resolve, reject } = Promise.withResolvers<string[]>();
  let text = "";
  socket.on("data", (data) => {
    text += data.toString();
    const answers = text.split("\n").slice(0, -1);
    if (answers.includes(until)) resolve(answers);
  });
  socket.on("error", reject);
  socket.write(`${lines.join("\n")}\necho done\n`);
  return within(20_000, promise, `"${until}" of the ${kind}`).finally(() => socket.destroy());
}

/** The events that the guest sees while commands are carried out. */
async function observe(kind: string, lines: readonly string[]): Promise<string[]> {
  const file = `/tmp/${kind}.events`;
  await guest.run(
    `rm -f ${file}; /extra/events record ${paths.get(kind)} ${file} & echo $! >/tmp/pid`,
  );
  await guest.run(`while [ ! -e ${file} ]; do usleep 10000; done`);
  await play(kind, lines);
  await sleep(200);
  await guest.run("kill $(cat /tmp/pid)");
  const text = await guest.run(`cat ${file}`);
  return text === "" ? [] : text.split("\n");
}

const SYNC = "0 0 0";
const press = (code: number, value: number) => [`1 ${code} ${value}`, SYNC];

step(
  "the guest has a keyboard, a mouse, a tablet and a touch screen, as they describe themselves",
  async () => {
    const devices: string[] = [];
    for (const kind of kinds) {
      const args = [`--kind=${kind}`, `--serial=serial-${kind}`];
      const socket = join(folder, kind);
      owns(kind, await startDevice("input", socket, [`--listen=${socket}.listen`, ...args]));
      devices.push("-chardev", `socket,id=${kind},path=${socket}`);
      devices.push("-device", `vhost-user-input-pci,chardev=${kind}`);
    }
    const events = buildTool("tests/guest/programs/events.c", { flags: ["-static"] });
    const initrd = withPrograms(folder, { events });
    guest = owns("guest", await bootGuest({ folder, devices, memory: 256, initrd }));
    const lines = (await guest.run("/extra/events list")).split("\n");
    const rows = lines.map((line) => line.split("|"));
    for (const [path, name] of rows) paths.set(name!.split(" ").at(-1)!, path!);
    const mine = rows.filter(([, name]) => name!.startsWith("Ringside"));
    const screen = "0=0..32767 1=0..32767";
    assert.deepEqual(
      mine.map((row) => row.slice(1).map((word) => word.trim())).sort(),
      [
        ["Ringside keyboard", "serial-keyboard", "6:0:1:1", "0", ""],
        ["Ringside mouse", "serial-mouse", "6:0:2:1", "0", ""],
        [
          "Ringside multitouch",
          "serial-multitouch",
          "6:0:4:1",
          "2",
          `${screen} 2f=0..9 35=0..32767 36=0..32767 39=0..65535`,
        ],
        ["Ringside tablet", "serial-tablet", "6:0:3:1", "0", screen],
      ],
      lines.join("\n"),
    );
  },
  { notWithStandIn },
);

step(
  "every event arrives, in order",
  async () => {
    assert.deepEqual(await observe("keyboard", ["key ctrl+c", "down a", "up a"]), [
      ...[29, 46].flatMap((code) => press(code, 1)),
      ...[46, 29].flatMap((code) => press(code, 0)),
      ...press(30, 1),
      ...press(30, 0),
    ]);
    assert.deepEqual(await observe("mouse", ["move 10 -5", "wheel -1", "click left"]), [
      ...["2 0 10", "2 1 -5", SYNC, "2 8 -1", SYNC],
      ...press(0x110, 1),
      ...press(0x110, 0),
    ]);
    assert.deepEqual(await observe("tablet", ["abs 0.5 0.25", "click right"]), [
      ...["3 0 16384", "3 1 8192", SYNC],
      ...press(0x111, 1),
      ...press(0x111, 0),
    ]);
  },
  { notWithStandIn },
);

step(
  "packets of more events than the ring holds arrive whole",
  async () => {
    const lines = ["touch 0 0.5 0.25", "touch 1 1 1", "touch 0 0.25 0.5", "lift 0", "lift 1"];
    const events = await observe("multitouch", lines);
    // The kernel leaves out what it knows: contact 0 is the one that is selected at first.
    assert.deepEqual(events, [
      ...["3 57 0", "3 53 16384", "3 54 8192", "1 330 1", "3 0 16384", "3 1 8192", SYNC],
      ...["3 47 1", "3 57 1", "3 53 32767", "3 54 32767", SYNC],
      ...["3 47 0", "3 53 8192", "3 54 16384", "3 0 8192", "3 1 16384", SYNC],
      ...["3 57 -1", SYNC],
      ...["3 47 1", "3 57 -1", "1 330 0", SYNC],
    ]);
  },
  { notWithStandIn },
);

step(
  "a burst of typing arrives at the guest's console, complete",
  async () => {
    // The settings of a console are those of whoever has it open.
    await guest.run("(stty raw -echo; exec cat >/tmp/typed) </dev/tty1 & echo $! >/tmp/pid");
    await guest.run("usleep 500000");
    // 64 keys at once and more; what nobody has read yet may be 4095 characters.
    const text = "> The quick brown fox jumps over the lazy dog, 64 times: {[(~`|\\\\)]}!".repeat(
      8,
    );
    await play("keyboard", [`type "${text}"`]);
    await sleep(500);
    await guest.run("kill $(cat /tmp/pid)");
    // What earlier steps typed into the console comes first.
    const typed = await guest.run("cat /tmp/typed");
    assert.equal(typed.slice(typed.indexOf(">")), JSON.parse(`"${text}"`));
  },
  { notWithStandIn },
);

step(
  "an LED that the guest switches comes back",
  async () => {
    const light = play("keyboard", [], "led capslock on");
    await guest.run(`sleep 1; /extra/events send ${paths.get("keyboard")} 17 1 1`);
    assert.ok((await light).includes("led capslock on"));
  },
  { notWithStandIn },
);

step(
  "events wait while the machine is stopped",
  async () => {
    const file = "/tmp/stopped.events";
    await guest.run(
      `/extra/events record ${paths.get("mouse")} ${file} & echo $! >/tmp/pid; usleep 300000`,
    );
    await guest.execute("stop");
    const played = play("mouse", ["move 3 4"]);
    await sleep(300);
    await guest.execute("cont");
    await played;
    await sleep(200);
    await guest.run("kill $(cat /tmp/pid)");
    assert.deepEqual((await guest.run(`cat ${file}`)).split("\n"), ["2 0 3", "2 1 4", SYNC]);
  },
  { notWithStandIn },
);

step(
  "the devices are there again after a reset, and after their driver was unbound",
  async () => {
    await guest.reset();
    assert.deepEqual(await observe("mouse", ["move 1 2"]), ["2 0 1", "2 1 2", SYNC]);
    const driver = "/sys/bus/virtio/drivers/virtio_input";
    const found = `for d in ${driver}/virtio*; do [ -d $d/input ] && basename $d; done`;
    const devices = (await guest.run(found)).split("\n");
    assert.equal(devices.length, 4);
    for (const what of ["unbind", "bind"]) {
      for (const device of devices) await guest.run(`echo ${device} >${driver}/${what}`);
    }
    await guest.run("usleep 300000");
    for (const line of (await guest.run("/extra/events list")).split("\n")) {
      const [path, name] = line.split("|");
      paths.set(name!.split(" ").at(-1)!, path!);
    }
    assert.deepEqual(await observe("keyboard", ["key enter"]), [...press(28, 1), ...press(28, 0)]);
  },
  { notWithStandIn, timeoutMs: 120_000 },
);

end();
