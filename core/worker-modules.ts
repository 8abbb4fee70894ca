/** Modules of Workers. They are loaded by their URL, which bundlers do not see. */
export const workerModules: readonly string[] = ["core/pump-worker", "core/postcopy-worker"];
