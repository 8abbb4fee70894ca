/** How a front-end behaves. */
import { mask, RingFeature } from "../core/features.ts";
import type { ConnectionOptions } from "./connection.ts";
import type { GuestMemory, MemoryOptions } from "./guest-memory.ts";
import type { Iommu, IommuOptions } from "./iommu.ts";
import { type NegotiationOptions, ringFeatures } from "./negotiation.ts";

export interface FrontendOptions extends ConnectionOptions, NegotiationOptions {
  /** The guest's memory, which the front-end then owns; one region of 32 MiB by default. */
  readonly memory?: GuestMemory | MemoryOptions;
  /**
   * How memory is shared: in one table, or region by region. By default region by region where that
   * is negotiated, as QEMU does.
   */
  readonly share?: "table" | "slots";
  /** Puts the device behind an IOMMU (ACCESS_PLATFORM), where that is offered. */
  readonly iommu?: IommuOptions;
  /**
   * Have requests in flight recorded in a region that outlives the back-end, where INFLIGHT_SHMFD is
   * offered. The rings then stay as they are when it is lost, and the next one goes on by the region.
   */
  readonly inflight?: boolean;
}

/** The options of a front-end that accepts ACCESS_PLATFORM and answers for its IOMMU, if it has one. */
export function withIommu(options: FrontendOptions, iommu: () => Iommu | null): FrontendOptions {
  if (options.iommu === undefined) return options;
  const { features = ringFeatures, answer = () => 0n } = options;
  return {
    ...options,
    features: features | mask(RingFeature.ACCESS_PLATFORM),
    answer: (request) =>
      request.row.name === "IOTLB_MSG" ? iommu()!.answer(request) : answer(request),
  };
}
