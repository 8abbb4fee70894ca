/** Events of the config space: what the driver is told without having asked (virtio 1.3, 5.7.4.2). */
import type { Host } from "../../core/device.ts";
import type { Queries, Size } from "./queries.ts";
import { GpuConfig } from "./wire.ts";

/** The outputs are others than the driver was told. */
const DISPLAY = 1;

/** Sizes that change at run time, where no display of the front-end has a say in them. */
export class Resizing {
  readonly #queries: Queries;
  readonly #host: Host<typeof GpuConfig.schema>;

  constructor(queries: Queries, host: Host<typeof GpuConfig.schema>) {
    this.#queries = queries;
    this.#host = host;
  }

  /** False while the front-end's display says what there is: QEMU takes no events of ours either. */
  get possible(): boolean {
    return this.#queries.display === null;
  }

  /** Proposes a size to the driver. */
  resize(output: number, size: Size): void {
    if (!this.possible) return;
    this.#queries.resize(output, size);
    this.#host.updateConfig({ eventsRead: DISPLAY });
  }

  /** The driver writes to the config space, where it says which events it has seen. */
  write(at: number, data: Uint8Array): void {
    const seen = data[GpuConfig.offset.eventsClear - at] ?? 0;
    if ((seen & DISPLAY) === 0) return;
    this.#host.updateConfig({ eventsRead: 0 });
    // What came after the driver had asked is another event.
    if (!this.#queries.untold) return;
    this.#host.after(0, () => this.#host.updateConfig({ eventsRead: DISPLAY }));
  }
}
