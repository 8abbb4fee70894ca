/**
 * The IOMMU between a guest's devices and its memory, as far as a back-end sees it: it asks for
 * translations, gets them, and loses them again (vhost-user: IOMMU support).
 *
 * Guest memory appears at I/O addresses that are a fixed distance away from its guest addresses. What the
 * back-end is told of them, and when, is the options' business and the caller's.
 */
import { Iotlb } from "../core/payloads.ts";
import { frontEndMessages, IotlbMessage } from "../core/protocol.ts";
import type { Fd } from "../ffi/mod.ts";
import type { BackEndRequest, BackEndRequests } from "./backend-requests.ts";
import type { Connection, Reply } from "./connection.ts";
import { BackEndError } from "./errors.ts";
import type { GuestMemory } from "./guest-memory.ts";

/** Permissions of entries and of what is asked for. */
export const Permission = { READ: 1, WRITE: 2, BOTH: 3 } as const;

/** What a back-end asks for, or complains about. */
export interface IotlbRequest {
  /** I/O address. */
  readonly address: number;
  readonly permission: number;
}

/** A translation, in bytes. */
export interface IotlbEntry {
  /** First I/O address. */
  readonly address: number;
  readonly size: number;
  /** Guest address that it leads to. */
  readonly target: number;
  readonly permission: number;
}

export interface IommuOptions {
  /** I/O addresses less guest addresses; a multiple of 4096. */
  readonly offset?: number;
  /** Bytes of an entry that answers a miss; 4096 by default. */
  readonly pageSize?: number;
  /**
   * Answers a miss: by an entry, by `refuse`, or not at all. By default by the page of the guest's
   * memory, to read and write, and `refuse` where there is none.
   */
  readonly miss?: (request: IotlbRequest, iommu: Iommu) => IotlbEntry | "refuse" | "ignore";
}

/** Not a multiple of anything that a back-end may round to, beyond 32 bits. */
const DEFAULT_OFFSET = 0x5a_0000_3000;
const M = frontEndMessages;

export class Iommu {
  readonly offset: number;
  readonly pageSize: number;
  /** Misses so far, and what the back-end was not allowed to do. */
  readonly misses: IotlbRequest[] = [];
  readonly failures: IotlbRequest[] = [];
  readonly #memory: GuestMemory;
  #connection: Connection | null = null;
  #requests: BackEndRequests | null = null;
  readonly #miss: NonNullable<IommuOptions["miss"]>;
  /** Entries lead to guest addresses instead of user addresses. */
  readonly #byGuest: boolean;

  constructor(memory: GuestMemory, byGuest: boolean, options: IommuOptions) {
    const { offset = DEFAULT_OFFSET, pageSize = 4096, miss } = options;
    this.offset = offset;
    this.pageSize = pageSize;
    this.#memory = memory;
    this.#byGuest = byGuest;
    this.#miss = miss ?? ((request) => this.page(request.address) ?? "refuse");
    memory.ioOffset = offset;
    memory.behindIommu = true;
  }

  /** Uses a new connection; without `requests` the back-end cannot ask for anything. */
  attach(connection: Connection, requests: BackEndRequests | null): void {
    this.#connection = connection;
    this.#requests = requests;
  }

  get fd(): Fd | null {
    return this.#requests?.fd ?? null;
  }

  /** Answers what the back-end has asked. */
  serve(): void {
    this.#requests?.serve();
    this.#connection!.settle();
  }

  /** The entry of the page around an I/O address; null where the guest has no memory. */
  page(address: number, permission: number = Permission.BOTH): IotlbEntry | null {
    const { pageSize } = this;
    const target = address - this.offset - (address % pageSize);
    const size = pageSize;
    if (!this.#memory.regions.some((region) => region.contains(target))) return null;
    return { address: target + this.offset, size, target, permission };
  }

  /** Tells the back-end of a translation and waits for its reply. Throws when it refuses. */
  update(entry: IotlbEntry): void {
    this.#check(this.#connection!.request(M.IOTLB_MSG, this.#encode(entry)).payload);
  }

  /** Takes the translations of a range away, all of them by default, and waits for the reply. */
  invalidate(address = 0, size = 0): void {
    const type = IotlbMessage.INVALIDATE;
    const payload = Iotlb.encode({ iova: BigInt(address), size: BigInt(size), type });
    this.#check(this.#connection!.request(M.IOTLB_MSG, payload).payload);
  }

  /** The answer to an IOTLB message of the back-end. */
  answer({ payload }: BackEndRequest): bigint | null {
    const { iova, permission, type } = Iotlb.decode(payload);
    const request = { address: Number(iova), permission };
    if (type === IotlbMessage.ACCESS_FAIL) {
      this.failures.push(request);
      return 0n;
    }
    if (type !== IotlbMessage.MISS) {
      throw new BackEndError("malformed", `The back-end sent an IOTLB message of type ${type}`);
    }
    this.misses.push(request);
    const answer = this.#miss(request, this);
    if (answer === "ignore") return null;
    if (answer === "refuse") return 1n;
    // Its reply may come after that of a message that is being waited for.
    const take = (reply: Reply) => this.#check(reply.payload);
    this.#connection!.post(M.IOTLB_MSG, this.#encode(answer), take);
    return 0n;
  }

  #encode({ address, size, target, permission }: IotlbEntry): Uint8Array {
    const user = this.#byGuest ? target : this.#memory.userAddress(target);
    return Iotlb.encode({
      iova: BigInt(address),
      size: BigInt(size),
      userAddress: BigInt(user),
      permission,
      type: IotlbMessage.UPDATE,
    });
  }

  #check(payload: Uint8Array): void {
    if (payload.every((byte) => byte === 0)) return;
    throw new BackEndError("refused", "The back-end refused an IOTLB message");
  }
}
