/** The parts of the runtimes' own modules that benchmarks use. */
declare module "bun:jsc" {
  export function heapStats(): {
    heapSize: number;
    objectTypeCounts: Record<string, number>;
  };
  export function fullGC(): number;
}
