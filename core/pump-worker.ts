/** Runs in a Worker: waits for an epoll descriptor and tells the main thread. See pump.ts. */
import { bytes, libc, POLLFD } from "../ffi/mod.ts";
import { PumpCell } from "./pump-cells.ts";

const POLLIN = 1;

self.onmessage = (event: MessageEvent<{ epollFd: number; cells: Int32Array }>) => {
  const { epollFd, cells } = event.data;
  const request = bytes(POLLFD.size);
  const view = new DataView(request.buffer);
  view.setInt32(POLLFD.fd, epollFd, true);
  view.setInt16(POLLFD.events, POLLIN, true);
  for (;;) {
    Atomics.wait(cells, PumpCell.GO, 0);
    Atomics.store(cells, PumpCell.GO, 0);
    if (Atomics.load(cells, PumpCell.STOP) === 1) break;
    // Polling the epoll descriptor leaves the events to the main thread.
    libc.poll(request, 1, Atomics.load(cells, PumpCell.TIMEOUT));
    if (Atomics.load(cells, PumpCell.STOP) === 1) break;
    self.postMessage(0);
  }
  self.close();
};

self.postMessage("listening");
