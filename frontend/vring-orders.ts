/** The two orders in which front-ends set up and start their vrings, each at its base. */
import type { Connection } from "./connection.ts";
import type { Vring } from "./vring.ts";

/** One vring after the other, as QEMU does. */
export function setUpEach(
  connection: Connection,
  vrings: readonly Vring[],
  bases: readonly number[],
  logged: boolean,
): void {
  for (const [i, vring] of vrings.entries()) {
    vring.setSize(connection);
    vring.setEndian(connection);
    vring.setBase(connection, bases[i]!);
    vring.setAddresses(connection, logged);
    vring.setErr(connection);
    vring.setKick(connection);
    vring.setCall(connection);
  }
}

/** All sizes first, as cloud-hypervisor does. */
export function setUpTogether(
  connection: Connection,
  vrings: readonly Vring[],
  bases: readonly number[],
  logged: boolean,
): void {
  for (const vring of vrings) {
    vring.setSize(connection);
    vring.setEndian(connection);
  }
  for (const [i, vring] of vrings.entries()) {
    vring.setAddresses(connection, logged);
    vring.setBase(connection, bases[i]!);
    vring.setCall(connection);
    vring.setKick(connection);
    vring.setErr(connection);
  }
}
