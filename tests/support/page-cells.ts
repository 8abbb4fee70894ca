/** Cells of the control array that a page server's two threads share. */
export const PageCell = {
  /** Pages of the guest that the back-end and we ourselves touched before they came. */
  REMOTE_FAULTS: 0,
  OWN_FAULTS: 1,
  /** Pages that have come. */
  PLACED: 2,
  /** 1: pages come without being asked for. */
  PUSH: 3,
  /** 1: there are none left. */
  COMPLETE: 4,
  SIZE: 5,
} as const;
