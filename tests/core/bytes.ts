import assert from "node:assert/strict";

/** Fails with the first difference; a listing of all would take longer than the test. */
export function assertBytes(actual: Uint8Array, expected: Uint8Array, what = "the bytes"): void {
  assert.equal(actual.length, expected.length, `${what}: the length`);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  assert.fail(`${what} differ at ${at}: ${actual[at]} is not ${expected[at]}`);
}
