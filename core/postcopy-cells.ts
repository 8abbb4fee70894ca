/** What the two threads of a postcopy watch share. */

/** Cells of the control array: each is 0 until it comes true; RANGES is a number. */
export const WatchCell = { WATCHING: 0, ENDED: 1, LOST: 2, RANGES: 3, SIZE: 4 } as const;

/** Descriptors are numbers: the main thread owns them. */
export interface PostcopyWork {
  readonly cells: Int32Array<SharedArrayBuffer>;
  /** Address and length of each range. */
  readonly ranges: Float64Array<SharedArrayBuffer>;
  readonly socket: number;
  readonly userfault: number;
  /** Readable when the watch is over. */
  readonly stop: number;
}
