/** The Worker of traps.test.ts: fails many times, and answers with every errno it saw. */
import { cString, errno, libc, O_RDONLY } from "../../ffi/mod.ts";

const missing = cString("/nonexistent/ringside");
const seen = new Set<number>();
for (let i = 0; i < 20_000; i++) {
  libc.open(missing, O_RDONLY, 0);
  seen.add(errno());
}
self.postMessage([...seen]);
self.close();
