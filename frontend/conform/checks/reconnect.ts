/** Sessions that end, and what the next one finds. */
import { type Check, fail } from "../check.ts";
import { M } from "../wire.ts";

const COMMUNICATION = "vhost-user: Communication";

export const reconnection: readonly Check[] = [
  {
    id: "reconnect.often",
    title: "50 sessions in a row are served",
    source: COMMUNICATION,
    run(play) {
      play.needsReconnect();
      for (let i = 0; i < 50; i++) {
        play.greet().request(M.GET_FEATURES);
        play.close();
      }
    },
  },
  {
    id: "reconnect.clean",
    title: "A new session starts anew: features, rings, memory of the last one are forgotten",
    source: COMMUNICATION,
    run(play) {
      play.needsReconnect();
      for (let i = 0; i < 5; i++) {
        play.running({ base: i * 1000, ringSize: 16 << i }).run(10);
        play.close();
      }
    },
  },
  {
    id: "reconnect.other-features",
    title: "Each session has the features that it accepted",
    source: COMMUNICATION,
    run(play) {
      play.needsReconnect();
      for (const without of [[28, 29], [], [28], [29]]) {
        play.running({ features: play.wantedFeatures(...without) }).run(20, { depth: 4 });
        play.close();
      }
    },
  },
  {
    id: "reconnect.go-on",
    title: "A driver's ring goes on over a new connection from its used index",
    source: "vhost-user: Ring states",
    run(play) {
      play.needsReconnect();
      const lane = play.running();
      for (let round = 0; round < 5; round++) {
        lane.run(13, { depth: 4 });
        play.reconnect(lane);
      }
      lane.run(8);
    },
  },
  {
    id: "reconnect.in-flight",
    title: "What was in flight when the connection ended is completed on the next one",
    source: "vhost-user: Ring states",
    run(play) {
      play.needsReconnect();
      const lane = play.running();
      for (let round = 0; round < 20; round++) {
        for (let i = 0; i < 20; i++) lane.submit();
        lane.publish();
        play.reconnect(lane);
        lane.finish();
      }
    },
  },
  {
    id: "reconnect.killed",
    title: "A back-end that is killed and started again goes on with the driver's ring",
    source: "vhost-user: Ring states",
    run(play) {
      play.needsProcess();
      const lane = play.running();
      lane.run(8);
      for (let i = 0; i < 20; i++) lane.submit();
      lane.publish();
      play.target.restart();
      play.reconnect(lane);
      lane.finish();
      lane.run(8);
    },
  },
  {
    id: "reconnect.no-writes-after",
    title:
      "Guest memory is not written any more once the connection has ended and the next is there",
    source: COMMUNICATION,
    run(play) {
      play.needsReconnect();
      const lane = play.running();
      lane.run(2);
      lane.frontend.connection.close();
      play.greet().request(M.GET_FEATURES);
      const { ring } = lane.vring;
      const shown = ring.shownUsedIndex;
      lane.submit();
      lane.forceKick();
      play.pause();
      if (ring.shownUsedIndex !== shown) fail("no completion", "one");
    },
  },
  {
    id: "reconnect.descriptors",
    title: "Sessions that end leave no descriptors behind",
    source: COMMUNICATION,
    run(play) {
      play.expectNoLeak(20, () => play.running().run(2));
    },
  },
  {
    id: "reconnect.descriptors-in-flight",
    title: "Sessions that end with requests in flight leave no descriptors behind",
    source: COMMUNICATION,
    run(play) {
      play.expectNoLeak(20, () => {
        const lane = play.running();
        for (let i = 0; i < 30; i++) lane.submit();
        lane.publish();
      });
    },
  },
  {
    id: "reconnect.silent-client",
    title: "A connection that says nothing and ends does not keep others out",
    source: COMMUNICATION,
    run(play) {
      play.needsReconnect();
      for (let i = 0; i < 20; i++) {
        play.connect();
        play.close();
      }
      play.expectAlive();
    },
  },
];
