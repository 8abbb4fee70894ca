/** Protocol features that few back-ends offer; each is checked where it is. */
import { mask } from "../../../core/features.ts";
import { DeviceState, ShmemConfig, U64, VringState } from "../../../core/payloads.ts";
import { ProtocolFeature } from "../../../core/protocol.ts";
import { createMemfd, O_RDWR, openFile } from "../../../ffi/mod.ts";
import { GuestMemory } from "../../guest-memory.ts";
import { protocolFeatures } from "../../negotiation.ts";
import { type Check, expectEqual, fail } from "../check.ts";
import { tracked } from "../inflight-region.ts";
import type { Play } from "../play.ts";
import { split } from "../ring-kinds.ts";
import { askU64, expectDenied, M, vringState } from "../wire.ts";

const P = ProtocolFeature;
const MIB = 2 ** 20;
const STATE = "vhost-user: Migrating back-end state";
const INBAND = "vhost-user: In-band notifications";
const NO_FD_RETURNED = 0x100;

const inbandProtocol = protocolFeatures | mask(P.INBAND_NOTIFICATIONS);

export const extensions: readonly Check[] = [
  {
    id: "inband.kick-and-call",
    title: "Requests are kicked for and called for by messages",
    source: INBAND,
    run(play) {
      play.needsProtocol(P.INBAND_NOTIFICATIONS, P.BACKEND_REQ, P.REPLY_ACK);
      const options = { protocol: inbandProtocol, vring: { kicks: false, calls: false } };
      const lane = play.parked(options);
      lane.start();
      for (let i = 0; i < 8; i++) {
        lane.submit();
        lane.vring.ring.enableCalls();
        lane.vring.ring.publish();
        lane.connection.command(M.VRING_KICK, vringState(lane.vring.index, 0));
        const { payload } = lane.frontend.requests.expect("VRING_CALL", play.timeout);
        expectEqual("vring", VringState.decode(payload).index, lane.vring.index);
        lane.finish();
      }
    },
  },
  {
    id: "inband.V1-kick",
    title: "VRING_KICK of a vring that there is not is refused",
    source: INBAND,
    run(play) {
      play.needsProtocol(P.INBAND_NOTIFICATIONS, P.BACKEND_REQ, P.REPLY_ACK);
      const connection = play.greet(inbandProtocol);
      expectDenied(connection, "vring 65537", M.VRING_KICK, vringState(65537, 0));
      play.expectAlive();
    },
  },
  {
    id: "gpa.addresses",
    title: "Ring addresses are guest-physical where GPA_ADDRESSES is negotiated",
    source: "vhost-user: GPA_ADDRESSES",
    run(play) {
      play.needsProtocol(P.GPA_ADDRESSES);
      const memory = new GuestMemory({ regions: 0 });
      const guestAddress = 0x1_0000_0000;
      memory.add({ guestAddress, userAddress: guestAddress, size: 8 * MIB, offset: 0 });
      const protocol = protocolFeatures | mask(P.GPA_ADDRESSES);
      play.running({ memory, protocol }).run(8);
    },
  },
  {
    id: "state.save-and-load",
    title: "State is saved to a file while rings are stopped, and loaded from it",
    source: STATE,
    run(play) {
      play.needsProtocol(P.DEVICE_STATE);
      const protocol = protocolFeatures | mask(P.DEVICE_STATE);
      const lane = play.running({ protocol });
      lane.run(4);
      const bases = lane.vrings.map((vring) => lane.frontend.stopVring(vring));
      using file = createMemfd("ringside-state", 0);
      for (const direction of [0, 1]) {
        using fd = openFile(`/proc/self/fd/${file.number}`, O_RDWR);
        const payload = DeviceState.encode({ direction, phase: 0 });
        const reply = lane.connection.request(M.SET_DEVICE_STATE_FD, payload, [fd]);
        for (const own of reply.fds) own.close();
        const { value } = U64.decode(reply.payload);
        expectEqual("an answer of", Number(value), NO_FD_RETURNED);
        fd.close();
        expectEqual("a check of", askU64(lane.connection, M.CHECK_DEVICE_STATE), 0n);
      }
      lane.frontend.startVrings(lane.vrings, bases);
      lane.run(4);
    },
  },
  {
    id: "state.M15-direction",
    title: "A state transfer in an unknown direction is refused",
    source: STATE,
    run(play) {
      play.needsProtocol(P.DEVICE_STATE);
      const connection = play.greet(protocolFeatures | mask(P.DEVICE_STATE));
      using fd = createMemfd("ringside-state", 0);
      const payload = DeviceState.encode({ direction: 7, phase: 9 });
      connection.send(M.SET_DEVICE_STATE_FD, payload, [fd]);
      const error = readError(play, () => connection.reply(M.SET_DEVICE_STATE_FD).payload);
      if (error === 0) fail("an error or the end", "success");
      play.expectAlive();
    },
  },
  {
    id: "shmem.config",
    title: "GET_SHMEM_CONFIG counts its regions, whose sizes are whole pages, and stays the same",
    source: "vhost-user: GET_SHMEM_CONFIG",
    run(play) {
      play.needsProtocol(P.SHMEM);
      const connection = play.greet(protocolFeatures | mask(P.SHMEM));
      const { payload } = connection.request(M.GET_SHMEM_CONFIG);
      const { count, sizes } = ShmemConfig.decode(payload);
      expectEqual("regions:", count, sizes.filter((size) => size !== 0n).length);
      if (sizes.some((size) => size % 4096n !== 0n)) fail("multiples of 4096", sizes.join(", "));
      const again = connection.request(M.GET_SHMEM_CONFIG).payload;
      if (payload.some((byte, i) => byte !== again[i])) fail("the same again", "another answer");
    },
  },
  {
    id: "skip-drain.base",
    title: "GET_VRING_BASE_SKIP_DRAIN stops a ring at once, and what it had taken comes later",
    source: "vhost-user: GET_VRING_BASE_SKIP_DRAIN",
    run(play) {
      play.needsProtocol(P.GET_VRING_BASE_SKIP_DRAIN);
      const more = mask(P.INFLIGHT_SHMFD, P.GET_VRING_BASE_INFLIGHT, P.GET_VRING_BASE_SKIP_DRAIN);
      const { lane } = tracked(play, split, protocolFeatures | more);
      for (let round = 0; round < 20; round++) {
        for (let i = 0; i < 20; i++) lane.submit();
        lane.publish();
        const payload = vringState(lane.vring.index, 0);
        const reply = lane.connection.request(M.GET_VRING_BASE_SKIP_DRAIN, payload);
        const { ring } = lane.vring;
        const shown = ring.shownUsedIndex;
        play.pause(5);
        expectEqual("a used index that stays", ring.shownUsedIndex, shown);
        lane.resume(VringState.decode(reply.payload).num);
        lane.finish();
      }
    },
  },
];

/** The error byte of an answer; 1 when the connection ends instead. */
function readError(play: Play, read: () => Uint8Array): number {
  try {
    return Number(U64.decode(read()).value & 0xffn);
  } catch {
    play.close();
    return 1;
  }
}
