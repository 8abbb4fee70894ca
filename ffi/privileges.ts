import { PR_SET_NO_NEW_PRIVS } from "./abi.ts";
import { check, libc } from "./libc.ts";

/** Keeps this process and what it starts from ever gaining privileges by running another program. */
export function setNoNewPrivileges(): void {
  check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)");
}
