import assert from "node:assert/strict";
import { mask, RingFeature } from "../../core/features.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import {
  bytes,
  createEventFd,
  createMemfd,
  F_SETFL,
  type Fd,
  libc,
  O_NONBLOCK,
  O_RDONLY,
  openFile,
  signal,
  socketPair,
} from "../../ffi/mod.ts";
import { createPipe } from "../ffi/pipe.ts";
import { readable, u64 } from "./client.ts";
import { allRingFeatures, type Guest } from "./guest.ts";
import { blockingEventFd, directory, fill, zeroDevice } from "./objects.ts";
import type { Ring } from "./ring.ts";
import { suite } from "./row.ts";

const { row, guest } = suite();
/** Without EVENT_IDX every batch of completions is announced. */
const features = allRingFeatures & ~mask(RingFeature.EVENT_IDX);

function offerRead(g: Guest, ring: Ring): void {
  ring.offer(ring.chain(0, g.buffers(ring, { type: RequestType.IN, length: 512 })));
}

/** Runs a request whose kick goes to `kick` and returns its status. */
function runWith(g: Guest, ring: Ring, kick: Fd): number {
  offerRead(g, ring);
  signal(kick.number);
  assert.ok(ring.complete(), "the request completes");
  return g.memory[ring.data + 16]!;
}

row(
  "V8 a descriptor that cannot notify is refused, and the old one goes on",
  {
    log: [
      /kick descriptor: it is neither an eventfd nor a pipe nor a socket/,
      /call descriptor: it is neither/,
      /kick descriptor: it is open for writing only/,
      /call descriptor: it is open for reading only/,
    ],
  },
  (program) => {
    using g = guest({ features });
    const ring = g.ring(1);
    using pipe = createPipe();
    using file = openFile(program.image, O_RDONLY);
    using memfd = createMemfd("bad-input-object", 4096);
    using folder = directory();
    using zero = zeroDevice();
    for (const fd of [file, memfd, folder, zero]) {
      for (const name of ["SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR"] as const) {
        assert.equal(g.client.ack(name, u64(1), [fd]), "refused", name);
      }
    }
    assert.equal(g.client.ack("SET_VRING_KICK", u64(1), [pipe.writer]), "refused");
    assert.equal(g.client.ack("SET_VRING_CALL", u64(1), [pipe.reader]), "refused");
    assert.equal(g.client.ack("SET_VRING_ERR", u64(1), [pipe.reader]), "refused");
    assert.equal(runWith(g, ring, ring.kickFd), Status.OK, "the old kick");
    assert.ok(readable(ring.callFd, 5000), "the old call");
    g.verify(ring);
  },
);

row("V8 pipes and sockets notify like eventfds", {}, () => {
  using g = guest({ features });
  const ring = g.ring(1);
  for (const flags of [0, O_NONBLOCK]) {
    using kick = createPipe(flags);
    using call = createPipe(flags);
    g.must("SET_VRING_KICK", u64(1), [kick.reader]);
    g.must("SET_VRING_CALL", u64(1), [call.writer]);
    for (let i = 0; i < 3; i++) {
      assert.equal(runWith(g, ring, kick.writer), Status.OK);
      assert.ok(readable(call.reader, 5000), "the pipe is written");
      assert.ok(libc.read(call.reader.number, bytes(4096), 4096) >= 8);
    }
    // A kick of one byte is one.
    offerRead(g, ring);
    libc.write(kick.writer.number, bytes(1), 1);
    assert.ok(ring.complete());
  }
  const [kick, kickEnd] = socketPair();
  const [call, callEnd] = socketPair();
  g.must("SET_VRING_KICK", u64(1), [kickEnd]);
  g.must("SET_VRING_CALL", u64(1), [callEnd]);
  assert.equal(runWith(g, ring, kick), Status.OK);
  assert.ok(readable(call, 5000), "the socket is written");
  for (const fd of [kick, kickEnd, call, callEnd]) fd.close();
});

row("V8 a kick whose other end is gone does not keep the back-end busy", {}, (program) => {
  using g = guest({ features });
  const ring = g.ring(1);
  {
    using kick = createPipe();
    g.must("SET_VRING_KICK", u64(1), [kick.reader]);
    assert.equal(runWith(g, ring, kick.writer), Status.OK);
  }
  const [end, passed] = socketPair();
  g.must("SET_VRING_KICK", u64(0), [passed]);
  passed.close();
  end.close();
  assert.ok(program.idle(), "the back-end sleeps");
  g.must("SET_VRING_KICK", u64(0), [g.ring(0).kickFd]);
  g.must("SET_VRING_KICK", u64(1), [ring.kickFd]);
  g.verifyAll();
});

row("V8 a call or err whose other end is gone harms nobody", {}, () => {
  using g = guest({ features });
  const ring = g.ring(1);
  {
    using call = createPipe();
    using err = createPipe();
    g.must("SET_VRING_CALL", u64(1), [call.writer]);
    g.must("SET_VRING_ERR", u64(1), [err.writer]);
  }
  g.verify(ring);
  ring.offer(ring.size);
  ring.kick();
  g.verify(g.ring(0));
  g.restart(ring);
  g.verify(ring);
});

row("V8 a kick that somebody else empties does not block the back-end", {}, () => {
  using g = guest({ features });
  const ring = g.ring(1);
  using kick = blockingEventFd();
  g.must("SET_VRING_KICK", u64(1), [kick]);
  const value = bytes(8);
  for (let i = 0; i < 3000; i++) {
    signal(kick.number);
    // One of the two readers finds nothing.
    libc.read(kick.number, value, 8);
    if (i % 500 === 0) g.verify(g.ring(0));
  }
  g.verify(g.ring(0));
  assert.equal(runWith(g, ring, kick), Status.OK);
});

row("V8 a kick that is never emptied keeps nobody from being served", {}, () => {
  using g = guest({ features });
  const [end, passed] = socketPair();
  g.must("SET_VRING_KICK", u64(1), [passed]);
  const block = bytes(4096);
  for (let i = 0; i < 200; i++) {
    libc.write(end.number, block, 4096);
    if (i % 20 === 0) g.verify(g.ring(0));
  }
  assert.equal(g.client.askU64("GET_STATUS"), 0n);
  end.close();
  passed.close();
});

row("V9 a full call or err never blocks the back-end", {}, () => {
  using g = guest({ features });
  const ring = g.ring(1);
  for (const make of [blockingEventFd, createEventFd]) {
    using call = make();
    using err = make();
    fill(call);
    fill(err);
    g.must("SET_VRING_CALL", u64(1), [call]);
    g.must("SET_VRING_ERR", u64(1), [err]);
    for (let i = 0; i < 20; i++) g.verify(ring);
    ring.offer(ring.size);
    ring.kick();
    g.verify(g.ring(0));
    // Emptied again, it works again.
    libc.read(call.number, bytes(8), 8);
    g.restart(ring);
    g.must("SET_VRING_CALL", u64(1), [call]);
    g.verify(ring);
    assert.ok(readable(call, 5000));
  }
  for (const flags of [0, O_NONBLOCK]) {
    using call = createPipe(flags);
    g.must("SET_VRING_CALL", u64(1), [call.writer]);
    // 64 KiB is what a pipe holds by default, 8 bytes each.
    fillPipe(call.writer);
    for (let i = 0; i < 20; i++) g.verify(ring);
  }
  g.verify(g.ring(0));
});

/** Writes until no 8 bytes more fit. Leaves the pipe's flags as they were. */
function fillPipe(writer: Fd): void {
  const blocking = (writer.statusFlags() & O_NONBLOCK) === 0;
  writer.setNonBlocking();
  const block = bytes(4096);
  while (libc.write(writer.number, block, 4096) > 0);
  if (blocking) libc.fcntl(writer.number, F_SETFL, writer.statusFlags() & ~O_NONBLOCK);
}
