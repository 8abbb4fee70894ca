/**
 * Starts a program that inherits a descriptor of this process, as libvirt does it. The runtimes'
 * own spawn functions cannot pass one, so this is posix_spawn(3).
 */
import { bytes, cString, type Fd, O_CREAT, O_WRONLY, runtime, SystemError } from "../../ffi/mod.ts";
import { sleep } from "../../frontend/mod.ts";
import { isAlive } from "./process-status.ts";

const C = runtime.bind("libc.so.6", {
  // int posix_spawn_file_actions_init(posix_spawn_file_actions_t *actions)
  posix_spawn_file_actions_init: { args: ["buffer"], result: "i32" },
  // int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int as)
  posix_spawn_file_actions_adddup2: { args: ["buffer", "i32", "i32"], result: "i32" },
  // int posix_spawn_file_actions_addopen(actions, int fd, const char *path, int flags, mode_t mode)
  posix_spawn_file_actions_addopen: {
    args: ["buffer", "i32", "buffer", "i32", "u32"],
    result: "i32",
  },
  // int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions)
  posix_spawn_file_actions_destroy: { args: ["buffer"], result: "i32" },
  // int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
  //                 const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
  posix_spawn: {
    args: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  // pid_t waitpid(pid_t pid, int *status, int options)
  waitpid: { args: ["i32", "buffer", "i32"], result: "i32" },
});

const WNOHANG = 1;
/** More than sizeof(posix_spawn_file_actions_t), which is 80. */
const FILE_ACTIONS_SIZE = 256;

/** A NULL-terminated array of strings, and what must stay referenced with it. */
function pointers(texts: readonly string[]) {
  const strings = texts.map((text) => cString(text));
  const array = new BigUint64Array(new ArrayBuffer(8 * (texts.length + 1)));
  strings.forEach((string, i) => {
    array[i] = BigInt(runtime.addressOf(string));
  });
  return { array, strings };
}

function must(result: number, call: string): void {
  if (result !== 0) throw new SystemError(call, result);
}

export class Inheritor implements Disposable {
  readonly pid: number;
  #status: number | null = null;

  /** Starts `command` with `fd` as descriptor `number`; its stderr goes to the file `log`. */
  constructor(command: readonly string[], fd: Fd, number: number, log: string) {
    const actions = bytes(FILE_ACTIONS_SIZE);
    const path = cString(command[0]!);
    const logPath = cString(log);
    const environment = { ...process.env, RINGSIDE_RUNTIME: runtime.name };
    const argv = pointers(command);
    const envp = pointers(Object.entries(environment).map(([name, value]) => `${name}=${value}`));
    const pid = new Int32Array(new ArrayBuffer(4));
    must(C.posix_spawn_file_actions_init(actions), "posix_spawn_file_actions_init");
    const write = O_WRONLY | O_CREAT;
    must(
      C.posix_spawn_file_actions_addopen(actions, 2, logPath, write, 0o600),
      "posix_spawn_file_actions_addopen",
    );
    must(
      C.posix_spawn_file_actions_adddup2(actions, fd.number, number),
      "posix_spawn_file_actions_adddup2",
    );
    must(C.posix_spawn(pid, path, actions, null, argv.array, envp.array), "posix_spawn");
    C.posix_spawn_file_actions_destroy(actions);
    this.pid = pid[0]!;
  }

  /** Waits for the end. Returns the exit status, or 128 and the signal; null when it does not come. */
  exit(milliseconds = 10_000): number | null {
    const status = new Int32Array(new ArrayBuffer(4));
    const end = performance.now() + milliseconds;
    while (this.#status === null && performance.now() < end) {
      if (C.waitpid(this.pid, status, WNOHANG) === this.pid) {
        const signal = status[0]! & 0x7f;
        this.#status = signal === 0 ? (status[0]! >> 8) & 0xff : 128 + signal;
      } else sleep(2);
    }
    return this.#status;
  }

  get alive(): boolean {
    return this.#status === null && isAlive(this.pid);
  }

  [Symbol.dispose](): void {
    if (this.alive) process.kill(this.pid, "SIGKILL");
    this.exit();
  }
}
