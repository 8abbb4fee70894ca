/** The dirty log of live migration, and rows M6 and M7. */
import { mask, VhostFeature } from "../../../core/features.ts";
import { LogArea, VringAddr } from "../../../core/payloads.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { createEventFd, createMemfd, Mapping } from "../../../ffi/mod.ts";
import { protocolFeatures } from "../../negotiation.ts";
import { type Check, fail, notOffered } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { expectDenied, expectTaken, M, rawReply, u64 } from "../wire.ts";

const P = ProtocolFeature;
const SOURCE = "vhost-user: Migration";
const PAGE = 4096;
const wanted = protocolFeatures | mask(P.LOG_SHMFD);

interface Logged {
  readonly lane: Lane;
  /** A byte per eight pages of guest memory. */
  readonly log: Uint8Array;
}

/** A guest with rings that run, whose memory is logged when `on`. */
function logged(play: Play, on = true): Logged {
  play.needsProtocol(P.LOG_SHMFD);
  play.needsFeature(VhostFeature.LOG_ALL);
  const lane = play.running({ protocol: wanted });
  const { regions } = lane.frontend.memory;
  const size = Math.ceil(Math.max(...regions.map(({ end }) => end)) / PAGE / 8 / PAGE + 1) * PAGE;
  const fd = play.keep(createMemfd("ringside-log", size));
  const log = play.keep(new Mapping(fd, size)).windows[0]!.u8;
  const area = LogArea.encode({ size: BigInt(size), offset: 0n });
  lane.connection.send(M.SET_LOG_BASE, area, [fd]);
  // DPDK answers with nothing, others with a u64 or the log's description.
  rawReply(lane.connection);
  if (on) switchLog(lane, true);
  return { lane, log };
}

function switchLog({ frontend, vrings }: Lane, on: boolean): void {
  const { connection, features, memory } = frontend;
  const value = features | (on ? mask(VhostFeature.LOG_ALL) : 0n);
  connection.command(M.SET_FEATURES, u64(value));
  for (const { index, ring } of vrings) {
    const { descriptor, available, used } = ring.place;
    const user = (at: number) => BigInt(memory.userAddress(at));
    const payload = VringAddr.encode({
      index,
      flags: on ? 1 : 0,
      descriptor: user(descriptor),
      available: user(available),
      used: user(used),
      log: BigInt(used),
    });
    connection.command(M.SET_VRING_ADDR, payload);
  }
}

function isDirty(log: Uint8Array, address: number): boolean {
  const page = Math.floor(address / PAGE);
  return (((log[Math.floor(page / 8)] ?? 0) >> (page % 8)) & 1) === 1;
}

export const logging: readonly Check[] = [
  {
    id: "log.data",
    title: "Each page that the device writes data to is marked",
    source: SOURCE,
    run(play) {
      const { lane, log } = logged(play);
      const { room } = lane.exercise.request(0);
      if (room === 0) notOffered("a request that the device answers with data");
      for (let i = 0; i < 16; i++) {
        const at = lane.frontend.memory.allocate(2 * PAGE, PAGE);
        // Across a page border, so that there are two pages to mark.
        const answerAt = at + PAGE - Math.floor(room / 2);
        lane.submit({ answerAt });
        lane.publish();
        lane.finish();
        if (!isDirty(log, at)) fail("the page of the first byte marked", "unmarked");
        const last = answerAt + lane.written - 1;
        if (!isDirty(log, last)) fail("the page of the last byte marked", "unmarked");
      }
    },
  },
  {
    id: "log.used-ring",
    title: "The used ring is marked where VHOST_VRING_F_LOG asks for it",
    source: SOURCE,
    run(play) {
      const { lane, log } = logged(play);
      lane.run(4);
      const { used } = lane.vring.ring.place;
      if (!isDirty(log, used)) fail("the used ring's page marked", "unmarked");
    },
  },
  {
    id: "log.not-read",
    title: "Pages that the device only reads are not marked",
    source: SOURCE,
    run(play) {
      const { lane, log } = logged(play);
      const { out } = lane.exercise.request(0);
      if (out.length === 0) notOffered("a request that the device reads");
      const requestAt = lane.frontend.memory.allocate(PAGE, PAGE);
      lane.submit({ requestAt });
      lane.publish();
      lane.finish();
      if (isDirty(log, requestAt)) fail("the request's page unmarked", "marked");
    },
  },
  {
    id: "log.off",
    title: "Nothing is marked once LOG_ALL is switched off",
    source: SOURCE,
    run(play) {
      const { lane, log } = logged(play);
      lane.run(4);
      switchLog(lane, false);
      log.fill(0);
      lane.run(8);
      if (log.some((byte) => byte !== 0)) fail("no marks", "some");
    },
  },
  {
    id: "log.on-later",
    title: "LOG_ALL may be switched on and off while rings run",
    source: SOURCE,
    run(play) {
      const { lane, log } = logged(play, false);
      lane.run(4);
      if (log.some((byte) => byte !== 0)) fail("no marks before LOG_ALL", "some");
      for (let round = 0; round < 4; round++) {
        switchLog(lane, true);
        lane.run(4);
        if (!log.some((byte) => byte !== 0)) fail("marks", "none");
        switchLog(lane, false);
        log.fill(0);
      }
    },
  },
  {
    id: "log.fd",
    title: "SET_LOG_FD is accepted",
    source: "vhost-user: SET_LOG_FD",
    run(play) {
      play.needsProtocol(P.LOG_SHMFD);
      using fd = createEventFd();
      expectTaken(play.greet(wanted), "an eventfd", M.SET_LOG_FD, undefined, [fd]);
    },
  },
  ...(
    [
      ["zero", "of size 0", { size: 0n, offset: 0n }],
      ["wrap", "whose end wraps", { size: 4096n, offset: 0xffff_ffff_ffff_f000n }],
      ["beyond-file", "that is larger than its file", { size: 2n ** 30n, offset: 0n }],
    ] as const
  ).map(
    ([name, title, area]): Check => ({
      id: `log.M6-${name}`,
      title: `A log ${title} is refused, or used without harm`,
      source: "vhost-user: SET_LOG_BASE",
      run(play) {
        play.needsProtocol(P.LOG_SHMFD);
        using fd = createMemfd("ringside-log", PAGE);
        const connection = play.greet(wanted);
        const payload = LogArea.encode(area);
        if (name === "beyond-file") {
          connection.send(M.SET_LOG_BASE, payload, [fd]);
          play.pause(20);
        } else expectDenied(connection, name, M.SET_LOG_BASE, payload, [fd]);
        play.expectAlive();
      },
    }),
  ),
];
