/** The disk of a back-end that forgets to mark what it writes: the control of migration.test.ts. */
import { DirtyLog } from "../../core/dirty-log.ts";
import blk from "../../devices/blk/mod.ts";

DirtyLog.prototype.mark = () => {};

export default blk;
