/** Cells of the control array that the event pump's two threads share. */
export const PumpCell = { GO: 0, TIMEOUT: 1, STOP: 2, SIZE: 3 } as const;
