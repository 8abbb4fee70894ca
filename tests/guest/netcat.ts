/** TCP transfers between a guest and a network namespace, by busybox's netcat on both sides. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { Namespace } from "../net/namespace.ts";
import type { Channel } from "./channel.ts";
import { lab } from "./lab.ts";
import { type Running, start } from "./processes.ts";
import { until, within } from "./wait.ts";

export const hostNc = `${lab.run} busybox nc`;
const timeoutMs = 80_000;
const md5 = (data: Uint8Array) => createHash("md5").update(data).digest("hex");

/**
 * A netcat that ends when the other side has sent all. It reads from a pipe that nobody writes to: one
 * with nothing to send would tell its peer at once, which ends on that.
 */
export const receive = (port: number, into: string, nc: string) =>
  `rm -f ${into}.pipe; mkfifo ${into}.pipe; exec 3<>${into}.pipe; ${nc} -l -p ${port} <&3 >${into}`;

/** A command line of the lab's shell in the namespace. */
export const inside = (namespace: Namespace, command: string): Running =>
  start("nc", namespace.command(lab.run, "busybox", "sh", "-c", command));

/** Whether somebody listens on a TCP port of the namespace that a process is in; null when not. */
export function listensOn(pid: number, port: number): true | null {
  const LISTEN = "0A";
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = ["tcp", "tcp6"].flatMap((name) =>
    readFileSync(`/proc/${pid}/net/${name}`, "utf8").split("\n"),
  );
  const found = lines.some((line) => {
    const fields = line.trim().split(/\s+/);
    return fields[1]?.endsWith(local) && fields[3] === LISTEN;
  });
  return found || null;
}

export interface Ends {
  readonly namespace: Namespace;
  readonly hostAddress: string;
  readonly guestAddress: string;
  /** A file for the host's side. */
  readonly file: string;
}

/** The guest sends random data; `during` happens meanwhile. */
export async function sendFromGuest(
  guest: Channel,
  { namespace, hostAddress, file }: Ends,
  mebibytes: number,
  during: () => Promise<void> = async () => {},
): Promise<void> {
  const wanted = await guest.run(
    `dd if=/dev/urandom of=/tmp/data bs=1M count=${mebibytes} 2>/dev/null; md5sum /tmp/data`,
  );
  const server = inside(namespace, receive(5000, file, hostNc));
  await until(10_000, () => listensOn(server.pid, 5000), "nc to listen");
  const sending = guest.run(`nc ${hostAddress} 5000 </tmp/data`, { timeoutMs });
  await during();
  await sending;
  await within(10_000, server.ended, "nc to end");
  assert.equal(md5(readFileSync(file)), wanted.split(" ")[0]);
}

/** A command that succeeds in a guest where somebody listens on a TCP port. */
export const listensIn = (port: number): string =>
  `grep -q ':${port.toString(16).toUpperCase()} .* 0A ' /proc/net/tcp /proc/net/tcp6`;

export interface Transfer {
  readonly from: Channel;
  readonly to: Channel;
  /** Of the receiving guest. */
  readonly address: string;
  readonly mebibytes: number;
}

/**
 * One guest sends random data to another. `during` happens while as much of it is under way as there is
 * room for, and tells on which channel the receiver is heard from then on.
 */
export async function sendBetween(
  { from, to, address, mebibytes }: Transfer,
  during: () => Promise<Channel> = async () => to,
): Promise<void> {
  const wanted = await from.run(
    `dd if=/dev/urandom of=/tmp/data bs=1M count=${mebibytes} 2>/dev/null; md5sum </tmp/data`,
  );
  // What it reads waits where it came in until then. Nobody sleeps: guests of TCG may oversleep.
  const read = "exec 4</tmp/hold; read x </tmp/go; md5sum <&4 >/tmp/new; mv /tmp/new /tmp/sum";
  const got = receive(5002, "/tmp/hold", "nc");
  await to.run("rm -f /tmp/sum /tmp/go /tmp/hold; mkfifo /tmp/hold /tmp/go");
  await to.run(`(${read}) >/dev/null 2>&1 & (${got}) >/dev/null 2>&1 &`);
  await to.succeeds(listensIn(5002), 10_000, "nc to listen");
  const sending = from.run(`nc ${address} 5002 </tmp/data`, { timeoutMs });
  sending.catch(() => {});
  const heard = await during();
  await heard.run("echo >/tmp/go");
  await sending;
  await heard.succeeds("[ -e /tmp/sum ]", 20_000, "the sum of what came");
  assert.equal(await heard.run("cat /tmp/sum"), wanted);
}

/** The guest gets random data. */
export async function sendToGuest(
  guest: Channel,
  { namespace, guestAddress, file }: Ends,
  mebibytes: number,
): Promise<void> {
  const data = randomBytes(mebibytes * 1024 * 1024);
  writeFileSync(file, data);
  const got = `${receive(5001, "/tmp/got", "nc")}; md5sum /tmp/got >/tmp/new; mv /tmp/new /tmp/sum`;
  await guest.run(`rm -f /tmp/sum; (${got}) >/dev/null 2>&1 &`);
  // What stands between the two may take a connection that the guest then refuses.
  await guest.succeeds(listensIn(5001), 20_000, "nc to listen");
  const client = inside(namespace, `${hostNc} ${guestAddress} 5001 <${file}`);
  await guest.succeeds("[ -e /tmp/sum ]", timeoutMs, "the sum of what came");
  assert.equal((await guest.run("cat /tmp/sum")).split(" ")[0], md5(data));
  await within(10_000, client.ended, "nc to end");
}
