/** TCP transfers between a guest and a network namespace, by busybox's netcat on both sides. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { Namespace } from "../net/namespace.ts";
import type { Channel } from "./channel.ts";
import { lab } from "./lab.ts";
import { type Running, start } from "./processes.ts";
import { sleep, within } from "./wait.ts";

const hostNc = `${lab.run} busybox nc`;
const timeoutMs = 80_000;
const md5 = (data: Uint8Array) => createHash("md5").update(data).digest("hex");

/**
 * A netcat that ends when the other side has sent all. It reads from a pipe that nobody writes to: one
 * with nothing to send would tell its peer at once, which ends on that.
 */
const receive = (port: number, into: string, nc: string) =>
  `rm -f ${into}.pipe; mkfifo ${into}.pipe; exec 3<>${into}.pipe; ${nc} -l -p ${port} <&3 >${into}`;

/** A command line of the lab's shell in the namespace. */
const inside = (namespace: Namespace, command: string): Running =>
  start("nc", namespace.command(lab.run, "busybox", "sh", "-c", command));

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
  await sleep(500);
  const sending = guest.run(`nc ${hostAddress} 5000 </tmp/data`, { timeoutMs });
  await during();
  await sending;
  await within(10_000, server.ended, "nc to end");
  assert.equal(md5(readFileSync(file)), wanted.split(" ")[0]);
}

/** The guest gets random data. */
export async function sendToGuest(
  guest: Channel,
  { namespace, guestAddress, file }: Ends,
  mebibytes: number,
): Promise<void> {
  const data = randomBytes(mebibytes * 1024 * 1024);
  writeFileSync(file, data);
  const command = `${receive(5001, "/tmp/got", "nc")}; md5sum /tmp/got`;
  const receiving = guest.run(command, { timeoutMs });
  await sleep(1000);
  const client = inside(namespace, `${hostNc} ${guestAddress} 5001 <${file}`);
  assert.equal((await receiving).split(" ")[0], md5(data));
  await within(10_000, client.ended, "nc to end");
}
