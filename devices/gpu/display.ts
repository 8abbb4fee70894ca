/** Where a picture can be shown. All of it is optional for a GPU: it works without any. */
import type { CursorState } from "./cursor.ts";
import type { Scanout } from "./scanouts.ts";

/** Answers to a question to the display; null when there is none. */
export type Settle = (answer: Uint8Array | null) => void;

export interface Display {
  /** The scanout shows another image, or another part of it, or nothing. */
  scanoutChanged(scanout: Scanout): void;
  /** Part of what the scanout shows has changed; in pixels of the scanout. */
  damaged(scanout: Scanout, x: number, y: number, width: number, height: number): void;
  /** The cursor of a scanout has another picture, or only another place. */
  cursorChanged(cursor: CursorState, picture: boolean): void;
  /** Shows what has changed, as much as can be without waiting. */
  flush(): void;
}

/** A display that has a say in which outputs there are. */
export interface KnowingDisplay extends Display {
  /** Asks for virtio_gpu_resp_display_info. */
  askDisplayInfo(settle: Settle): void;
  /** Asks for virtio_gpu_resp_edid of a scanout. */
  askEdid(scanout: number, settle: Settle): void;
}
