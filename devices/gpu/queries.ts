/**
 * What outputs there are: GET_DISPLAY_INFO and GET_EDID (virtio 1.3, 5.7.6.8). A display that knows is
 * asked; without one, or when it does not answer, the device's own options say it.
 */
import type { Chain, HeldChain } from "../../core/chain.ts";
import { PENDING } from "../../core/device.ts";
import { has } from "../../core/features.ts";
import { Reason } from "./commands.ts";
import type { KnowingDisplay } from "./display.ts";
import { EDID_SIZE, makeEdid } from "./edid.ts";
import type { GpuState } from "./state.ts";
import { DisplayInfo, EdidResponse, GetEdid, GpuFeature, Header, Response } from "./wire.ts";

/** A size in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

const NAME = "Ringside";

/** A command that waits for the display. */
interface Question {
  readonly chain: HeldChain;
  readonly answer: (chain: Chain, told: Uint8Array | null) => number;
}

export class Queries {
  /** Whom to ask. */
  display: KnowingDisplay | null = null;
  /** An output has another size than the driver was told last. */
  untold = false;
  readonly #state: GpuState;
  readonly #size: Size;
  readonly #questions = new Set<Question>();
  /** virtio_gpu_resp_display_info of our own: of the first output alone, until others are resized. */
  readonly #own = new Uint8Array(DisplayInfo.size);
  /** The last one that a display told, or our own. */
  #info: Uint8Array = this.#own;

  /** `size`: of the first output, when no display says otherwise. */
  constructor(state: GpuState, size: Size) {
    this.#state = state;
    this.#size = size;
    this.resize(0, size);
    this.untold = false;
  }

  /** Gives an output another size, for when no display says otherwise. */
  resize(output: number, { width, height }: Size): void {
    const view = new DataView(this.#own.buffer, DisplayInfo.modes + output * DisplayInfo.mode.size);
    const { mode } = DisplayInfo;
    view.setUint32(mode.width, width, true);
    view.setUint32(mode.height, height, true);
    view.setUint32(mode.enabled, 1, true);
    this.untold = true;
  }

  displayInfo(chain: Chain): number {
    const { display } = this;
    const answer = (to: Chain, told: Uint8Array | null): number => {
      this.#info = told ?? this.#own;
      this.untold = false;
      const count = this.#state.scanouts.all.length;
      const end = DisplayInfo.modes + count * DisplayInfo.mode.size;
      const modes = this.#info.subarray(DisplayInfo.modes, end);
      return this.#state.responder.data(to, Response.OK_DISPLAY_INFO, modes, DisplayInfo.size);
    };
    if (display === null) return answer(chain, null);
    return this.#wait(chain, answer, (settle) => display.askDisplayInfo(settle));
  }

  edid(chain: Chain): number {
    const { responder, scanouts, features } = this.#state;
    const { display } = this;
    const scanout = chain.readU32(GetEdid.scanout);
    if (!has(features, GpuFeature.EDID)) {
      return responder.refuse(chain, Response.ERR_UNSPEC, Reason.FEATURE);
    }
    if (scanouts.get(scanout) === undefined) {
      return responder.refuse(chain, Response.ERR_INVALID_SCANOUT_ID, Reason.SCANOUT);
    }
    const answer = (to: Chain, told: Uint8Array | null): number => {
      const data = told?.subarray(Header.size) ?? this.#ownEdid(scanout);
      return responder.data(to, Response.OK_EDID, data, EdidResponse.size);
    };
    if (display === null) return answer(chain, null);
    return this.#wait(chain, answer, (settle) => display.askEdid(scanout, settle));
  }

  /** Answers all that waits without the display: the queue stops, or nobody will answer any more. */
  giveUp(): void {
    for (const question of [...this.#questions]) this.#settle(question, null);
  }

  #wait(
    chain: Chain,
    answer: Question["answer"],
    ask: (settle: (told: Uint8Array | null) => void) => void,
  ): typeof PENDING {
    const question: Question = { chain: chain.hold(), answer };
    this.#questions.add(question);
    ask((told) => this.#settle(question, told));
    return PENDING;
  }

  #settle(question: Question, told: Uint8Array | null): void {
    if (!this.#questions.delete(question)) return;
    const { chain, answer } = question;
    if (chain.live) chain.complete(answer(chain, told));
  }

  /** Size of the EDID, padding, and the EDID of an output as far as it is known. */
  #ownEdid(scanout: number): Uint8Array {
    const { modes, mode } = DisplayInfo;
    const info = this.#info;
    const view = new DataView(info.buffer, info.byteOffset + modes + scanout * mode.size);
    const told = {
      width: view.getUint32(mode.width, true),
      height: view.getUint32(mode.height, true),
    };
    const known = told.width > 0 && told.height > 0;
    const data = new Uint8Array(EdidResponse.bytes - EdidResponse.length + EDID_SIZE);
    new DataView(data.buffer).setUint32(0, EDID_SIZE, true);
    const edid = makeEdid({ ...(known ? told : this.#size), name: NAME, serial: scanout + 1 });
    data.set(edid, EdidResponse.bytes - EdidResponse.length);
    return data;
  }
}
