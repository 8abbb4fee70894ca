/** The life of vrings: index, stop, start, replaced descriptors. */
import { VhostFeature } from "../../../core/features.ts";
import { VringState } from "../../../core/payloads.ts";
import { Notifier } from "../../notifier.ts";
import { type Check, expectEqual, fail } from "../check.ts";
import type { Lane } from "../lane.ts";
import { ask, M, u64, vringState } from "../wire.ts";

const STATES = "vhost-user: Ring states";
const BASE = "vhost-user: GET_VRING_BASE";

const load = (lane: Lane, count: number): void => {
  for (let i = 0; i < count && lane.submit(); i++);
};

/** Fails when anything is completed after the ring was stopped. */
function expectStopped(lane: Lane, base: number, pause: () => void): void {
  const { ring } = lane.vring;
  const shown = ring.shownUsedIndex;
  // With all that was taken completed, both indices of a split ring are the same.
  expectEqual("a base, as completions show, of", base, shown);
  pause();
  expectEqual("a used index that stays", ring.shownUsedIndex, shown);
}

export const vrings: readonly Check[] = [
  {
    id: "vrings.base",
    title: "GET_VRING_BASE counts the requests that were taken",
    source: BASE,
    run(play) {
      const lane = play.running();
      lane.run(37, { depth: 5 });
      expectEqual("a base of", lane.stop(), lane.vring.ring.availableIndex);
    },
  },
  {
    id: "vrings.base-wraps",
    title: "The base of GET_VRING_BASE wraps at 65536",
    source: BASE,
    run(play) {
      const lane = play.running({ base: 65530 });
      lane.run(10);
      expectEqual("a base of", lane.stop(), lane.vring.ring.availableIndex);
    },
  },
  {
    id: "vrings.base-kept",
    title: "GET_VRING_BASE of a ring that never started returns what SET_VRING_BASE set",
    source: BASE,
    run(play) {
      const lane = play.parked();
      const { vring, connection } = lane;
      vring.setSize(connection);
      vring.setBase(connection, 77);
      expectEqual("a base of", vring.stop(connection), 77);
    },
  },
  {
    id: "vrings.base-index",
    title: "The reply to GET_VRING_BASE names its vring, and has 8 bytes",
    source: BASE,
    run(play) {
      const lane = play.running();
      const { index } = lane.vring;
      const { payload } = lane.connection.request(M.GET_VRING_BASE, vringState(index, 0));
      expectEqual("bytes:", payload.length, 8);
      expectEqual("vring", VringState.decode(payload).index, index);
    },
  },
  {
    id: "vrings.V11-base-number",
    title: "A number in GET_VRING_BASE is ignored",
    source: BASE,
    run(play) {
      const lane = play.running();
      lane.run(5);
      const payload = vringState(lane.vring.index, 0x1234);
      const reply = lane.connection.request(M.GET_VRING_BASE, payload);
      expectEqual("a base of", VringState.decode(reply.payload).num, lane.vring.ring.usedIndex);
    },
  },
  {
    id: "vrings.restart",
    title: "A ring goes on where it stopped, ten times",
    source: STATES,
    run(play) {
      const lane = play.running();
      for (let round = 0; round < 10; round++) {
        lane.run(3 + round, { depth: 3 });
        lane.resume(lane.stop());
      }
      lane.run(8);
    },
  },
  {
    id: "vrings.restart-anew",
    title: "A ring can be set up anew with another size on the same connection",
    source: STATES,
    run(play) {
      const first = play.running({ ringSize: 64 });
      first.run(20);
      for (const vring of first.vrings) first.frontend.stopVring(vring);
      const { frontend, exercise } = first;
      for (const ringSize of [16, 256]) {
        const vringsNow = Array.from({ length: exercise.vrings }, (_, index) =>
          frontend.addVring(index, { size: ringSize }),
        );
        frontend.startVrings(
          vringsNow,
          vringsNow.map(() => 0),
        );
        const vring = vringsNow[exercise.queue]!;
        const { out, room } = exercise.request(0);
        const at = frontend.memory.allocate(out.length + room + 16);
        for (let i = 0; i < 2 * ringSize; i++) {
          frontend.memory.write(at, out);
          vring.ring.clear();
          if (out.length > 0) vring.ring.push(at, out.length, false);
          if (room > 0) vring.ring.push(at + out.length, room, true);
          vring.ring.add(0);
          vring.publish();
          if (!vring.wait(play.timeout) || !vring.ring.next()) fail("a completion", "none");
        }
        for (const other of vringsNow) frontend.stopVring(other);
      }
    },
  },
  {
    id: "vrings.stopped",
    title: "A stopped ring takes nothing, and its requests come with the next start",
    source: STATES,
    run(play) {
      const lane = play.running();
      lane.run(5);
      const base = lane.stop();
      load(lane, 4);
      lane.forceKick();
      expectStopped(lane, base, () => play.pause());
      lane.resume(base);
      lane.finish();
    },
  },
  {
    id: "vrings.V11-drain",
    title: "GET_VRING_BASE completes what is in flight before it answers",
    source: BASE,
    run(play) {
      const lane = play.running();
      for (let round = 0; round < 20; round++) {
        load(lane, 40);
        lane.publish();
        const base = lane.vring.stop(lane.connection);
        expectStopped(lane, base, () => play.pause(10));
        lane.resume(base);
        lane.finish();
      }
    },
  },
  {
    id: "vrings.disable",
    title: "SET_VRING_ENABLE 0 pauses a ring, and 1 lets it go on with what has come",
    source: STATES,
    run(play) {
      play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
      const lane = play.running();
      for (let round = 0; round < 5; round++) {
        lane.run(3);
        lane.vring.enable(lane.connection, false);
        load(lane, 3);
        lane.publish();
        lane.vring.kick.signal();
        play.pause(20);
        const { ring } = lane.vring;
        if (play.device !== "net" && ring.shownUsedIndex !== ring.usedIndex) {
          fail("no completion while disabled", "one");
        }
        lane.vring.enable(lane.connection, true);
        lane.finish();
      }
    },
  },
  {
    id: "vrings.V7-call-replaced",
    title: "No completion is lost while the call descriptor is replaced 300 times",
    source: "vhost-user: SET_VRING_CALL",
    run(play) {
      const lane = play.running();
      for (let i = 0; i < 300; i++) {
        load(lane, 5);
        lane.publish();
        lane.vring.replaceCall(lane.connection);
        // What the old descriptor learned is not known to the new one.
        while (lane.take());
        if (i % 5 === 0) lane.finish();
      }
      lane.finish();
    },
  },
  {
    id: "vrings.V7-kick-replaced",
    title: "No request is lost while the kick descriptor is replaced 300 times",
    source: "vhost-user: SET_VRING_KICK",
    run(play) {
      const lane = play.running();
      for (let i = 0; i < 300; i++) {
        load(lane, 3);
        lane.publish();
        lane.vring.replaceKick(lane.connection);
        lane.vring.kick.signal();
        lane.finish();
      }
    },
  },
  {
    id: "vrings.V7-same-descriptors",
    title: "The same kick and call descriptors may be passed again",
    source: "vhost-user: SET_VRING_KICK",
    run(play) {
      const lane = play.running();
      for (let i = 0; i < 20; i++) {
        lane.vring.setKick(lane.connection);
        lane.vring.setCall(lane.connection);
        lane.vring.kick.signal();
        lane.run(2);
      }
    },
  },
  {
    id: "vrings.V7-descriptors-closed",
    title: "Replaced kick, call and err descriptors are closed",
    source: "vhost-user: SET_VRING_CALL",
    run(play) {
      play.needsProcess();
      const lane = play.running();
      lane.run(2);
      const before = play.target.settledDescriptors();
      for (let i = 0; i < 200; i++) {
        lane.vring.replaceCall(lane.connection);
        lane.vring.setErr(lane.connection);
        if (i % 4 === 0) lane.vring.replaceKick(lane.connection);
      }
      lane.vring.kick.signal();
      const after = play.target.settledDescriptors(before);
      if (after > before + 20) fail(`about ${before} open descriptors`, `${after}`);
      lane.run(2);
    },
  },
  {
    id: "vrings.polled-calls",
    title: "Without a call descriptor the driver finds completions by itself",
    source: "vhost-user: SET_VRING_CALL",
    run: (play) => play.running({ vring: { calls: false } }).run(100, { depth: 4 }),
  },
  {
    id: "vrings.polled-kicks",
    title: "Without a kick descriptor the back-end polls the ring",
    source: "vhost-user: SET_VRING_KICK",
    run: (play) => play.running({ vring: { kicks: false } }).run(100, { depth: 4 }),
  },
  {
    id: "vrings.V5-base-of-nothing",
    title: "GET_VRING_BASE of a ring that nothing is known of is answered or refused",
    source: BASE,
    run(play) {
      const connection = play.greet();
      if (ask(connection, M.GET_VRING_BASE, vringState(0, 0)).answer === "silent") {
        fail("an answer or the end", "silence");
      }
      play.expectAlive();
    },
  },
  {
    id: "vrings.V5-kick-first",
    title: "SET_VRING_KICK before size and addresses harms nothing",
    source: STATES,
    run(play) {
      const connection = play.greet();
      const { reader } = play.keep(Notifier.eventFd());
      connection.send(M.SET_VRING_KICK, u64(0), [reader]);
      ask(connection, M.GET_VRING_BASE, vringState(0, 0));
      play.expectAlive();
    },
  },
  {
    id: "vrings.V5-addresses-first",
    title: "SET_VRING_ADDR and SET_VRING_KICK before any memory end in no crash",
    source: STATES,
    run(play) {
      const frontend = play.frontend();
      frontend.acceptFeatures();
      const vring = frontend.addVring(0, { size: 64 });
      try {
        vring.setSize(frontend.connection);
        vring.setAddresses(frontend.connection);
        vring.setKick(frontend.connection);
        vring.enable(frontend.connection, true);
      } catch {
        // Refusing is right, as is waiting for memory.
      }
      vring.kick.signal();
      play.pause(20);
      play.expectAlive();
    },
  },
];
