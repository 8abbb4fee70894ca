/**
 * Lets a test act between the memory accesses that the device orders, as a driver on another CPU
 * could: before and after each `Atomics.load` and `Atomics.store`.
 */

type Access = (typeof Atomics)["load"];

/** Runs `body`; `gap(n)` is called at the n-th point where the other side may act. */
export function interleaved<T>(gap: (point: number) => void, body: () => T): T {
  const { load, store } = Atomics;
  let point = 0;
  let inGap = false;
  const act = (): void => {
    // The other side's own accesses open no gaps.
    if (inGap) return;
    inGap = true;
    gap(point++);
    inGap = false;
  };
  const around = (real: (...args: any[]) => unknown) =>
    ((...args: any[]) => {
      act();
      const result = real(...args);
      act();
      return result;
    }) as unknown as Access;
  Object.assign(Atomics, { load: around(load as any), store: around(store as any) });
  try {
    return body();
  } finally {
    Object.assign(Atomics, { load, store });
  }
}
