/** The memory table (vhost-user: SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG). */
import type { Message } from "../connection.ts";
import { ProtocolError } from "../errors.ts";
import { hex } from "../hex.ts";
import type { RegionSpec } from "../memory.ts";
import {
  MAX_TABLE_REGIONS,
  MemTableHeader,
  Region,
  SingleRegion,
  U64,
  XenRegion,
} from "../payloads.ts";
import { MAX_MEM_SLOTS } from "../protocol.ts";
import type { Session } from "../session.ts";
import { type Handler, SILENT, toNumber, u64, WAIT } from "./handler.ts";

function readRegion(payload: Uint8Array, at: number): RegionSpec {
  const wire = Region.decode(payload, at);
  const spec = {
    guestAddress: toNumber(wire.guestAddress, "guest address"),
    size: toNumber(wire.size, "region size"),
    userAddress: toNumber(wire.userAddress, "user address"),
    mmapOffset: toNumber(wire.mmapOffset, "mmap offset"),
  };
  if (spec.size === 0) throw new ProtocolError("Cannot use a memory region of size 0");
  for (const start of [spec.guestAddress, spec.userAddress, spec.mmapOffset]) {
    if (!Number.isSafeInteger(start + spec.size)) {
      throw new ProtocolError(`Cannot use a region of ${hex(spec.size)} bytes at ${hex(start)}`);
    }
  }
  return spec;
}

/** Refuses regions of XEN_MMAP, which is never offered: their memory does not come as a file. */
function refuseXen(name: string, payload: Uint8Array, at: number): never {
  const { flags, domain } = XenRegion.decode(payload, at);
  throw new ProtocolError(
    `${name} has Xen regions (domain ${domain}, flags ${hex(flags)}): XEN_MMAP is not supported`,
  );
}

/** Bytes of a single region with XEN_MMAP. */
const XEN_SINGLE = SingleRegion.size - Region.size + XenRegion.size;

/** The region of ADD_MEM_REG and REM_MEM_REG, with or without its leading padding. */
function readSingleRegion({ name, payload }: Message): RegionSpec {
  if (payload.length === XEN_SINGLE) refuseXen(name, payload, XEN_SINGLE - XenRegion.size);
  if (payload.length !== SingleRegion.size && payload.length !== Region.size) {
    throw new ProtocolError(`${name} has a payload of ${payload.length} bytes`);
  }
  return readRegion(payload, payload.length - Region.size);
}

function readTable({ name, payload, fds }: Message): RegionSpec[] {
  if (payload.length < MemTableHeader.size) {
    throw new ProtocolError(`${name} has a payload of ${payload.length} bytes`, { fatal: true });
  }
  const { count } = MemTableHeader.decode(payload);
  if (count > MAX_TABLE_REGIONS) {
    throw new ProtocolError(`Cannot use ${count} memory regions: ${MAX_TABLE_REGIONS} at most`);
  }
  if (count > 0 && payload.length === MemTableHeader.size + count * XenRegion.size) {
    refuseXen(name, payload, MemTableHeader.size);
  }
  const expected = MemTableHeader.size + count * Region.size;
  // User-Mode Linux sends room for two regions and uses one.
  if (payload.length < expected || fds.length !== count) {
    throw new ProtocolError(
      `SET_MEM_TABLE names ${count} regions with ${fds.length} descriptors ` +
        `in ${payload.length} bytes, not ${expected}`,
    );
  }
  return Array.from({ length: count }, (_, i) =>
    readRegion(payload, MemTableHeader.size + i * Region.size),
  );
}

/**
 * A table of memory whose pages come later. The reply has our addresses in place of the front-end's;
 * the front-end, ready to serve faults there, answers that, and only then may memory be touched.
 */
function awaitTable(session: Session, message: Message, specs: readonly RegionSpec[]): void {
  const { memory } = session;
  session.suspendRings(() => {
    try {
      memory.replace(
        specs,
        message.fds.map((fd) => fd!),
      );
    } catch (error) {
      session.resumeRings();
      return session.answer(message, undefined, error);
    }
    const reply = message.payload.slice();
    memory.regions.forEach(({ host }, i) => {
      const at = MemTableHeader.size + i * Region.size + Region.offset.userAddress;
      new DataView(reply.buffer).setBigUint64(at, BigInt(host), true);
    });
    session.postcopy!.awaitAnswer(message.name);
    session.answer(message, reply);
  });
}

/** The front-end's answer: an empty table or, from QEMU, a u64 that is 0. */
function takeAnswer(session: Session, { name, payload, fds }: Message): typeof SILENT {
  if (payload.length > U64.size || fds.length > 0 || payload.some((byte) => byte !== 0)) {
    throw new ProtocolError(`The front-end's answer to ${name} is no success`, { fatal: true });
  }
  session.postcopy!.answered();
  session.resumeRings();
  return SILENT;
}

const describe = ({ guestAddress, size }: RegionSpec) => ({
  address: hex(guestAddress),
  size: hex(size),
});

export const memoryHandlers = {
  SET_MEM_TABLE(session, message) {
    if (session.postcopy?.isAnswer(message)) return takeAnswer(session, message);
    const specs = readTable(message);
    const fds = message.fds.map((fd) => fd!);
    if (session.postcopy?.listening) {
      awaitTable(session, message, specs);
      return WAIT;
    }
    session.whileQuiet(
      () => session.memory.replace(specs, fds),
      (error) => session.answer(message, undefined, error),
    );
    return WAIT;
  },

  GET_MAX_MEM_SLOTS: () => u64(MAX_MEM_SLOTS),

  ADD_MEM_REG(session, message) {
    const spec = readSingleRegion(message);
    session.memory.add(spec, message.fds[0]!, MAX_MEM_SLOTS);
    session.backend.log.debug("A memory region is there", describe(spec));
    for (const vring of session.vrings) vring.retryStart();
    session.translation.look();
    return undefined;
  },

  REM_MEM_REG(session, message) {
    const spec = readSingleRegion(message);
    const region = session.memory.match(spec);
    if (region === undefined) {
      throw new ProtocolError(
        `Cannot remove the region of ${hex(spec.size)} bytes at ${hex(spec.guestAddress)}: ` +
          "there is none",
      );
    }
    session.whileQuiet(
      () => {
        session.memory.remove(region);
        session.backend.log.debug("A memory region is gone", describe(spec));
      },
      (error) => session.answer(message, undefined, error),
    );
    return WAIT;
  },
} satisfies Record<string, Handler>;
