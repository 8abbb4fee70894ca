/** A conformance tester for any vhost-user back-end: checks, what runs them, and reports. */
export { type Check, groupOf, type Outcome, outcomes, type Result } from "./check.ts";
export { type DeviceKind, deviceKinds } from "./exercises.ts";
export type { Offer } from "./play.ts";
export { checks, checksOf } from "./registry.ts";
export { checkLine, listText, summary } from "./report/human.ts";
export { jsonReport } from "./report/json.ts";
export { junitReport } from "./report/junit.ts";
export { tapHeader, tapLine } from "./report/tap.ts";
export { probe, type RunOptions, runChecks } from "./runner.ts";
export { kindOf } from "./specs.ts";
export { Target, type TargetOptions } from "./target.ts";
