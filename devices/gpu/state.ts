/** All that a GPU knows of its guest, shared by what carries out its commands. */
import { has, RingFeature } from "../../core/features.ts";
import type { Log } from "../../core/log.ts";
import { HostMemory } from "./host-memory.ts";
import { type Resource, Resources } from "./resources.ts";
import { Responder } from "./response.ts";
import { Scanouts } from "./scanouts.ts";

export class GpuState {
  readonly memory: HostMemory;
  readonly resources: Resources;
  readonly scanouts: Scanouts;
  readonly responder: Responder;
  /** Feature bits that the driver accepted. */
  features = 0n;

  /** `hostMemory` in bytes. */
  constructor(log: Log, outputs: number, hostMemory: number) {
    this.memory = new HostMemory(hostMemory);
    this.resources = new Resources(this.memory);
    this.scanouts = new Scanouts(outputs, this.memory);
    this.responder = new Responder(log);
  }

  /** Gives up a resource and stops showing it. */
  remove(resource: Resource): void {
    for (const scanout of this.scanouts.all) {
      if (scanout.resource === resource) this.scanouts.disable(scanout);
    }
    this.resources.remove(resource);
  }

  /** Forgets everything of the driver. */
  clear(): void {
    for (const scanout of this.scanouts.all) {
      this.scanouts.disable(scanout);
      const { cursor } = scanout;
      const { visible } = cursor;
      cursor.clear();
      if (visible) this.scanouts.cursorChanged(cursor, false);
    }
    this.resources.clear();
  }
}

/** Tells whether the driver's addresses go through an IOMMU, which may change what they mean at any time. */
export function isTranslated(features: bigint): boolean {
  return has(features, RingFeature.ACCESS_PLATFORM);
}
