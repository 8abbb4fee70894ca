/** What the environment says about fuzzing: RINGSIDE_SEED, and RINGSIDE_TEST_FULL=1. */
const DEFAULT_SEED = 20261121;

export const full = process.env.RINGSIDE_TEST_FULL === "1";
export const seed = Number(process.env.RINGSIDE_SEED ?? DEFAULT_SEED);
