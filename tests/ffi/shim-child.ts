/** The process of shim.test.ts: tells what libc answers. */
import { createMemfd, errno, libc } from "../../ffi/mod.ts";

using memory = createMemfd("ringside-test", 4096);
const result = libc.fdatasync(memory.number);
console.log(JSON.stringify({ result, errno: result < 0 ? errno() : 0, size: memory.stat().size }));
