/** Messages of the protocol's optional parts. Each needs its feature to be negotiated. */
import {
  CryptoSession,
  DeviceState,
  ShmemConfig,
  U64,
  Uuid,
  VringState,
} from "../core/payloads.ts";
import { frontEndMessages as M } from "../core/protocol.ts";
import type { Fd } from "../ffi/mod.ts";
import type { Connection, Reply } from "./connection.ts";
import { BackEndError } from "./errors.ts";

const u64Of = ({ payload }: Reply): bigint => U64.decode(payload).value;

/** Has the back-end announce the interface with a MAC address of 6 bytes. */
export function sendRarp(connection: Connection, mac: Uint8Array): void {
  const payload = new Uint8Array(U64.size);
  payload.set(mac);
  connection.command(M.SEND_RARP, payload);
}

/** Tells the largest packet, in bytes. */
export function setMtu(connection: Connection, bytes: number): void {
  connection.command(M.NET_SET_MTU, U64.encode({ value: BigInt(bytes) }));
}

/** Opens a crypto session; `body` is the union of its description. Throws when it is refused. */
export function createCryptoSession(
  connection: Connection,
  operation: number,
  body: Uint8Array,
): bigint {
  const payload = CryptoSession.encode({ operation: BigInt(operation), body });
  const reply = connection.request(M.CREATE_CRYPTO_SESSION, payload).payload;
  const id = BigInt.asIntN(64, CryptoSession.decode(reply).sessionId);
  if (id >= 0n) return id;
  throw new BackEndError("refused", `The back-end opened no crypto session: it answered ${id}`);
}

export function closeCryptoSession(connection: Connection, id: bigint): void {
  connection.command(M.CLOSE_CRYPTO_SESSION, U64.encode({ value: id }));
}

/** The buffer that the device shares under a UUID of 16 bytes, the caller's to close, or null. */
export function getSharedObject(connection: Connection, uuid: Uint8Array): Fd | null {
  return connection.request(M.GET_SHARED_OBJECT, Uuid.encode({ uuid })).fds[0] ?? null;
}

/** Sizes of the device's shared memory regions by id, in bytes; 0 for an id without one. */
export function getSharedMemory(connection: Connection): readonly number[] {
  const { count, sizes } = ShmemConfig.decode(connection.request(M.GET_SHMEM_CONFIG).payload);
  const all = sizes.map(Number);
  const used = all.filter((size) => size > 0).length;
  if (used === count) return all;
  const message = `GET_SHMEM_CONFIG announces ${count} regions and lists ${used}`;
  throw new BackEndError("malformed", message);
}

/** Begins to save or load device state through `fd`. Returns the u64 of the reply. */
export function startStateTransfer(
  connection: Connection,
  direction: "save" | "load",
  fd: Fd,
): bigint {
  const payload = DeviceState.encode({ direction: direction === "save" ? 0 : 1, phase: 0 });
  return u64Of(connection.request(M.SET_DEVICE_STATE_FD, payload, [fd]));
}

/** Waits for the end of a transfer. Returns 0 for success. */
export function checkState(connection: Connection): bigint {
  return u64Of(connection.request(M.CHECK_DEVICE_STATE));
}

/** Kicks a vring by a message. */
export function kickInBand(connection: Connection, index: number): void {
  connection.command(M.VRING_KICK, VringState.encode({ index, num: 0 }));
}
