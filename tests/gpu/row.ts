/** Rows of the catalogue of bad input, tried on a graphics device. */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import {
  GpuDisplay,
  type GpuDisplayOptions,
  GpuDriver,
  type GpuOptions,
  GpuResponse,
} from "../../frontend/mod.ts";
import { fdCount, mappingsOf } from "../support/process-status.ts";
import { launcher, Program, until } from "../support/program.ts";
import { picture, Surface, shows } from "./screen.ts";

const { OK } = GpuResponse;

/** All bits of a u32. */
export const HUGE = 0xffffffff;

type Body = (driver: GpuDriver, display: GpuDisplay) => void;

/** A device with 64 MiB and 4 outputs, to be used within `describe`. `card`: more of its options. */
export function suite(card: readonly string[] = []) {
  let program: Program;
  let fds = 0;
  before(() => {
    const args = [
      "--socket-path=SOCKET",
      "--blob",
      "--max-hostmem=64M",
      "--max-outputs=4",
      ...card,
    ];
    program = new Program([launcher("vhost-user-gpu"), ...args]);
    fds = fdCount(program.pid);
  });
  after(() => program?.[Symbol.dispose]());

  const connect = (options?: GpuOptions) => GpuDriver.connect(program.socket, options);

  /**
   * A row: a driver that does something wrong, after which the device works as before and holds no more
   * than before.
   */
  function row(name: string, body: Body, settings?: GpuDisplayOptions): void {
    it(name, () => {
      {
        using display = new GpuDisplay(settings);
        using driver = connect({ display, maxBytes: 400_000 });
        body(driver, display);
        display.options = {};
        // A driver that begins anew has all of the memory: nothing was lost on the way.
        driver.frontend.resetDevice();
        for (const vring of driver.frontend.vrings.splice(0)) vring[Symbol.dispose]();
        const next = new GpuDriver(driver.frontend, { display });
        assert.equal(next.create(1, 4096, 4095), OK);
        assert.equal(next.unref(1), OK);
        const surface = new Surface(next, 1, 64, 32);
        surface.paint(picture(64, 32));
        surface.setScanout();
        surface.show();
        shows(display, picture(64, 32));
      }
      until(() => (fdCount(program.pid) === fds ? true : null), "descriptors to be closed");
      assert.equal(mappingsOf(program.pid, "ringside-image"), 0, "all images are gone");
      assert.doesNotMatch(program.log, /The device failed|broke the queue/);
    });
  }

  return { row, connect, pid: () => program.pid };
}
