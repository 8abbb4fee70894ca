/** Vring messages that are wrong: rows V1 to V10. */
import { VhostFeature } from "../../../core/features.ts";
import { VringAddr } from "../../../core/payloads.ts";
import {
  bytes,
  createEventFd,
  type Fd,
  libc,
  O_RDONLY,
  O_RDWR,
  openFile,
  socketPair,
} from "../../../ffi/mod.ts";
import { Notifier } from "../../notifier.ts";
import { type Check, fail, notOffered } from "../check.ts";
import type { Lane } from "../lane.ts";
import type { Play } from "../play.ts";
import { ask, denials, expectDenied, M, tell, u64, vringState } from "../wire.ts";

const STATE = "vhost-user: Vring state description";
const ADDRESS = "vhost-user: Vring address description";
const STATES = "vhost-user: Ring states";

/** Indices that no vring has. Low bytes count where a message holds only one byte of index. */
function wrongIndices(play: Play): number[] {
  return [firstWrong(play), 65536, 65537, 0xffffffff];
}

/** The first index that no vring has. For networks, GET_QUEUE_NUM counts pairs of queues. */
function firstWrong({ device, offer }: Play): number {
  const count = offer.queues ?? 255;
  return device === "net" ? Math.max(2 * count, 256) : Math.max(count, 1);
}

function refuseIndices(play: Play, send: (index: number) => void): void {
  for (const index of wrongIndices(play)) {
    send(index);
    play.close();
  }
  play.expectAlive();
}

/** The ring addresses of a lane, changed. */
function addressPayload(
  lane: Lane,
  change: (user: { descriptor: bigint; available: bigint; used: bigint }) => object,
): Uint8Array {
  const { place } = lane.vring.ring;
  const user = (at: number) => BigInt(lane.frontend.memory.userAddress(at));
  const right = {
    descriptor: user(place.descriptor),
    available: user(place.available),
    used: user(place.used),
  };
  return VringAddr.encode({ index: lane.vring.index, ...right, ...change(right) });
}

/** Addresses that make no ring: refused, or the ring does not start, or the connection ends. */
function badAddress(
  name: string,
  title: string,
  change: (lane: Lane) => Parameters<typeof addressPayload>[1],
): Check {
  return {
    id: `vrings.V4-${name}`,
    title,
    source: ADDRESS,
    run(play) {
      const lane = play.parked();
      const { vring, connection } = lane;
      const answers: string[] = [];
      const steps: (() => void)[] = [
        () => vring.setSize(connection),
        () => vring.setBase(connection, 0),
        () => answers.push(tell(connection, M.SET_VRING_ADDR, addressPayload(lane, change(lane)))),
        () => vring.setErr(connection),
        () => vring.setKick(connection),
        () => vring.enable(connection, true),
      ];
      try {
        for (const step of steps) step();
      } catch {
        answers.push("refused");
      }
      lane.submit();
      vring.ring.publish();
      vring.kick.signal();
      play.pause(30);
      if (vring.ring.shownUsedIndex !== 0) fail("no ring at these addresses", "a completion");
      play.expectAlive();
    },
  };
}

const outside = (): bigint => 0x1234_5678_0000n;

/** A kick or call descriptor of a wrong kind is refused or makes no trouble. */
function odd(name: string, title: string, open: (play: Play) => Fd): Check {
  return {
    id: `vrings.V8-${name}`,
    title,
    source: "vhost-user: SET_VRING_KICK",
    run(play) {
      for (const row of [M.SET_VRING_KICK, M.SET_VRING_CALL, M.SET_VRING_ERR]) {
        const lane = play.parked();
        const { vring, connection } = lane;
        vring.setSize(connection);
        vring.setBase(connection, 0);
        vring.setAddresses(connection);
        const answer = tell(connection, row, u64(vring.index), [open(play)]);
        if (answer === "silent") fail(`${row.name} to be answered`, "silence");
        if (answer !== "closed") ask(connection, M.GET_VRING_BASE, vringState(vring.index, 0));
        play.close();
      }
      play.expectAlive();
    },
  };
}

/** An eventfd that takes no more: a blocking write to it would never return. */
function fullEventFd(blocking: boolean): Fd {
  const fd = createEventFd();
  const most = bytes(8);
  new DataView(most.buffer).setBigUint64(0, 0xffff_ffff_ffff_fffen, true);
  libc.write(fd.number, most, 8);
  if (!blocking) return fd;
  const F_SETFL = 4;
  libc.fcntl(fd.number, F_SETFL, O_RDWR);
  return fd;
}

export const vringInput: readonly Check[] = [
  ...(["SET_VRING_NUM", "SET_VRING_BASE", "SET_VRING_ENABLE"] as const).map(
    (name): Check => ({
      id: `vrings.V1-${name.slice(10).toLowerCase()}`,
      title: `${name} of a vring that there is not is refused`,
      source: STATE,
      run(play) {
        if (name === "SET_VRING_ENABLE") play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
        const num = name === "SET_VRING_NUM" ? 64 : 0;
        refuseIndices(play, (index) => {
          expectDenied(play.greet(), `vring ${index}`, M[name], vringState(index, num));
        });
      },
    }),
  ),
  {
    id: "vrings.V1-addr",
    title: "SET_VRING_ADDR of a vring that there is not is refused",
    source: ADDRESS,
    run(play) {
      refuseIndices(play, (index) => {
        expectDenied(play.greet(), `vring ${index}`, M.SET_VRING_ADDR, VringAddr.encode({ index }));
      });
    },
  },
  {
    id: "vrings.V1-get-base",
    title: "GET_VRING_BASE of a vring that there is not ends the connection",
    source: STATE,
    run(play) {
      refuseIndices(play, (index) => {
        const { answer } = ask(play.greet(), M.GET_VRING_BASE, vringState(index, 0));
        if (answer !== "closed") fail(`vring ${index} to end the connection`, answer);
      });
    },
  },
  {
    id: "vrings.V1-descriptors",
    title: "SET_VRING_KICK, CALL and ERR of a vring that there is not are refused",
    source: "vhost-user: SET_VRING_KICK",
    run(play) {
      const wrong = [firstWrong(play), 255].filter(
        (index) => index >= firstWrong(play) && index < 256,
      );
      if (wrong.length === 0) notOffered("fewer vrings than a byte can count");
      for (const row of [M.SET_VRING_KICK, M.SET_VRING_CALL, M.SET_VRING_ERR]) {
        for (const index of wrong) {
          const { writer } = play.keep(Notifier.eventFd());
          expectDenied(play.greet(), `${row.name} of ${index}`, row, u64(index), [writer]);
          play.close();
        }
      }
      play.expectAlive();
    },
  },
  ...([0, 3, 65536, 0xffffffff] as const).map(
    (num): Check => ({
      id: `vrings.V2-size-${num}`,
      title: `A ring of ${num} descriptors is refused`,
      source: "virtio 1.3 2.7",
      run(play) {
        const lane = play.parked();
        const { vring, connection } = lane;
        const answer = tell(connection, M.SET_VRING_NUM, vringState(vring.index, num));
        if (!denials.includes(answer)) fail(`a size of ${num} to be refused`, answer);
        play.expectAlive();
      },
    }),
  ),
  {
    id: "vrings.V2-size-running",
    title: "The size of a running ring cannot be changed",
    source: STATES,
    run(play) {
      const lane = play.running({ ringSize: 64 });
      lane.run(4);
      const payload = vringState(lane.vring.index, 32);
      expectDenied(lane.connection, "the new size", M.SET_VRING_NUM, payload);
      play.expectAlive();
    },
  },
  {
    id: "vrings.V3-size-often",
    title: "20 000 times SET_VRING_NUM takes no memory",
    source: "vhost-user: SET_VRING_NUM",
    run(play) {
      const connection = play.greet();
      for (let i = 0; i < 20_000; i++) {
        connection.send(M.SET_VRING_NUM, vringState(0, 64));
        if (i % 100 === 0) connection.request(M.GET_FEATURES);
      }
      connection.request(M.GET_FEATURES);
      play.expectAlive();
    },
  },
  badAddress("outside", "A descriptor table outside of memory makes no ring", () => () => ({
    descriptor: outside(),
  })),
  badAddress(
    "available-outside",
    "An available ring outside of memory makes no ring",
    () => () => ({
      available: outside(),
    }),
  ),
  badAddress("used-outside", "A used ring outside of memory makes no ring", () => () => ({
    used: outside(),
  })),
  badAddress(
    "last-byte",
    "A ring whose last byte is outside of memory makes no ring",
    (lane) => () => {
      const { plan } = lane.frontend.memory.regions[0]!;
      return { used: BigInt(plan.userAddress + plan.size - 8 * lane.vring.ring.size) };
    },
  ),
  badAddress("unaligned", "Unaligned ring addresses make no ring", () => ({ descriptor }) => ({
    descriptor: descriptor + 1n,
  })),
  badAddress("wrap", "Ring addresses at 2^64 make no ring", () => () => ({
    descriptor: 0xffff_ffff_ffff_fff0n,
    available: 0xffff_ffff_ffff_fff0n,
    used: 0xffff_ffff_ffff_fff0n,
  })),
  badAddress("zero", "Ring addresses of 0 make no ring", () => () => ({
    descriptor: 0n,
    available: 0n,
    used: 0n,
  })),
  {
    id: "vrings.V6-base",
    title: "A base beyond 65535 is refused for a split ring",
    source: "vhost-user: SET_VRING_BASE",
    run(play) {
      const { vring, connection } = play.parked();
      const payload = vringState(vring.index, 0x12345);
      expectDenied(connection, "a base of 0x12345", M.SET_VRING_BASE, payload);
      play.expectAlive();
    },
  },
  odd("file", "A regular file for kick, call or err makes no trouble", (play) =>
    play.keep(openFile("/etc/passwd", O_RDONLY)),
  ),
  odd("device", "/dev/zero for kick, call or err makes no trouble", (play) =>
    play.keep(openFile("/dev/zero", O_RDWR)),
  ),
  odd("socket", "A socket for kick, call or err makes no trouble", (play) => {
    const [a, b] = socketPair();
    play.keep(b);
    return play.keep(a);
  }),
  ...([false, true] as const).map(
    (blocking): Check => ({
      id: `vrings.V9-full-${blocking ? "blocking" : "nonblocking"}`,
      title: `A full call descriptor that ${blocking ? "blocks" : "does not block"} stops nothing`,
      source: "vhost-user: SET_VRING_CALL",
      run(play) {
        const lane = play.running();
        const fd = fullEventFd(blocking);
        lane.vring.replaceCall(lane.connection, new Notifier(fd, fd));
        const { ring } = lane.vring;
        for (let i = 0; i < 8; i++) {
          lane.submit();
          lane.publish();
          const end = performance.now() + play.timeout;
          while (ring.shownUsedIndex === ring.usedIndex) {
            if (performance.now() > end) fail("a completion", "none");
          }
          lane.take();
        }
        lane.connection.request(M.GET_FEATURES);
      },
    }),
  ),
  {
    id: "vrings.V10-enable-2",
    title: "SET_VRING_ENABLE with another number than 0 and 1 is refused",
    source: "vhost-user: SET_VRING_ENABLE",
    run(play) {
      play.needsFeature(VhostFeature.PROTOCOL_FEATURES);
      const { vring, connection } = play.parked();
      expectDenied(connection, "2", M.SET_VRING_ENABLE, vringState(vring.index, 2));
      play.expectAlive();
    },
  },
];
