/** What a test and its Worker `mutator.ts` agree on. */

/** A field that takes one value after another. */
export interface Target {
  readonly at: number;
  readonly bytes: 2 | 4;
  readonly values: readonly number[];
}

export interface MutatorOrder {
  readonly memfd: number;
  readonly size: number;
  readonly seed: number;
  readonly targets: readonly Target[];
  /** Where in memory the u32 lies that says what to do. */
  readonly control: number;
}

/** Values of the control word. */
export const Control = { START: 0, READY: 1, RUN: 2, STOP: 3 } as const;
