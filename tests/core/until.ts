/** Waits until `condition` holds, and fails when it does not within seconds. */
export async function until(condition: () => boolean, what = "something"): Promise<void> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > 5_000) throw new Error(`waited in vain for ${what}`);
    await pause();
  }
}

/** Lets the loop and timers run for a while. */
export const pause = (milliseconds = 1): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));
