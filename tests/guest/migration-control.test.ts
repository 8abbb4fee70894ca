/** The proof of the proof: live migration with a back-end that marks nothing. */
import { runtime } from "./back-end.ts";
import { full } from "./lab.ts";
import { moves } from "./migration.ts";

if (full || runtime === "bun") moves({ packed: false, marks: false });
if (full || runtime === "deno") moves({ packed: true, marks: false });
