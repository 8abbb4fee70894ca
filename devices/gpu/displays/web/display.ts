/** `--web`: the screen in browsers. */
import { setImmediate } from "node:timers";
import type { Host } from "../../../../core/device.ts";
import type { CursorState } from "../../cursor.ts";
import type { Display } from "../../display.ts";
import type { Scanout, Scanouts } from "../../scanouts.ts";
import { parseWebAddress } from "./address.ts";
import { WebServer } from "./server.ts";
import { Viewer } from "./viewer.ts";
import type { ViewerControls } from "./wire.ts";

/** A browser that does not answer within this time is taken for gone, in milliseconds. */
const PING_INTERVAL = 20_000;

export class WebDisplay implements Display, Disposable {
  readonly #viewers = new Set<Viewer>();
  #server: WebServer | null = null;
  #due = false;

  /** Serves what `scanouts` show. Throws `Error` for an address that cannot be listened on. */
  static async open(
    address: string,
    scanouts: Scanouts,
    controls: ViewerControls | null,
    host: Host,
  ): Promise<WebDisplay> {
    const display = new WebDisplay();
    const server = await WebServer.open(parseWebAddress(address), (socket) => {
      const viewer = new Viewer(socket, scanouts.all, controls);
      const ping = host.every(PING_INTERVAL, () => {
        if (!viewer.alive) return socket.terminate();
        viewer.alive = false;
        socket.ping();
      });
      socket.on("pong", () => {
        viewer.alive = true;
      });
      socket.on("message", (data, binary) => {
        viewer.receive(binary ? "" : String(data));
      });
      // A close follows.
      socket.on("error", ({ message }) => host.log.debug("A viewer failed", { reason: message }));
      socket.on("close", () => {
        ping[Symbol.dispose]();
        viewer.leave();
        display.#viewers.delete(viewer);
        host.log.debug("A viewer left");
      });
      display.#viewers.add(viewer);
      host.log.debug("A viewer came");
      viewer.pump();
    });
    display.#server = server;
    host.log.info(`The screen is at ${server.url}`);
    return display;
  }

  scanoutChanged({ index }: Scanout): void {
    for (const viewer of this.#viewers) viewer.shown(index).changed();
    this.flush();
  }

  damaged({ index }: Scanout, x: number, y: number, width: number, height: number): void {
    for (const viewer of this.#viewers) viewer.shown(index).dirty.add(x, y, width, height);
  }

  cursorChanged({ scanout }: CursorState, picture: boolean): void {
    for (const viewer of this.#viewers) viewer.shown(scanout).cursorChanged(picture);
    this.flush();
  }

  /** What viewers may do is something else now. */
  controlsChanged(): void {
    for (const viewer of this.#viewers) viewer.greet();
    this.flush();
  }

  /** The driver is answered first, and what it does at once is shown at once. */
  flush(): void {
    if (this.#due || this.#viewers.size === 0) return;
    this.#due = true;
    setImmediate(() => {
      this.#due = false;
      for (const viewer of this.#viewers) viewer.pump();
    });
  }

  [Symbol.dispose](): void {
    this.#server?.[Symbol.dispose]();
    this.#server = null;
  }
}
