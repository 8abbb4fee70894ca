/** What both runtimes must do for ffi/ to be right: arguments, buffers and errno. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  bytes,
  createMemfd,
  cString,
  EBADF,
  ENOENT,
  errno,
  Iovecs,
  libc,
  MAP_FAILED,
  MAP_SHARED,
  O_RDONLY,
  openFile,
  PAGE_SIZE,
  PROT_READ,
  runtime,
  SystemError,
} from "../../ffi/mod.ts";

const C = runtime.bind("libc.so.6", {
  // long labs(long value)
  labs: { args: ["u32"], result: "usize" },
  // size_t strnlen(const char *text, size_t limit)
  strnlen: { args: ["buffer", "u32"], result: "usize" },
  // void *memset(void *to, int value, size_t count)
  memset: { args: ["buffer", "i32", "u32"], result: "usize" },
  // long syscall(long number, ...)
  syscall: { args: ["i64", "usize", "usize", "i64", "i64", "i64", "i64"], result: "usize" },
});

const SYS_MMAP = process.arch === "arm64" ? 222 : 9;

/** Leaves wide values in the argument registers, the way earlier calls do. */
function dirtyRegisters(): void {
  // An unknown mode makes fallocate return at once.
  libc.fallocate(-1, 0x7fff, 2 ** 52 + 0x7654_3210, 2 ** 52 + 0x1234_5678);
  C.syscall(-1, 2 ** 52 + 1, 2 ** 52 + 2, 2 ** 52 + 3, 2 ** 52 + 4, 2 ** 52 + 5, 2 ** 52 + 6);
}

describe("arguments", () => {
  it("declared u32 arrive in 64-bit registers with a clean upper half", () => {
    const text = bytes(64).fill(0x61);
    const target = bytes(64);
    for (let i = 0; i < 20_000; i++) {
      dirtyRegisters();
      const value = (0xf000_0000 + i) >>> 0;
      if (C.labs(value) !== value) assert.fail(`labs(${value}) was ${C.labs(value)}`);
      dirtyRegisters();
      if (C.strnlen(text, 17) !== 17) assert.fail("strnlen read past its limit");
      dirtyRegisters();
      C.memset(target, i & 0xff, 32);
      if (target[31] !== (i & 0xff) || target[32] !== 0) assert.fail("memset wrote past its end");
    }
  });

  it("keep all 64 bits when declared i64, the seventh on the stack included", () => {
    const low = 3 * PAGE_SIZE;
    const high = 4 * 2 ** 30 + low;
    using file = createMemfd("ringside-test", high + PAGE_SIZE);
    const iov = new Iovecs(1);
    iov.pushView(bytes(4).fill(0x11));
    assert.equal(libc.pwritev(file.number, iov.words, 1, low), 4);
    iov.clear();
    iov.pushView(bytes(4).fill(0x5a));
    assert.equal(libc.pwritev(file.number, iov.words, 1, high), 4);
    for (let i = 0; i < 2_000; i++) {
      const at = i & 1 ? high : low;
      const address = C.syscall(SYS_MMAP, 0, PAGE_SIZE, PROT_READ, MAP_SHARED, file.number, at);
      assert.notEqual(address, MAP_FAILED, `mmap at offset ${at} failed with errno ${errno()}`);
      // The few that have a view stay mapped.
      if (i >= 4) libc.munmap(address, PAGE_SIZE);
      else assert.equal(new Uint8Array(runtime.view(address, 4))[0], i & 1 ? 0x5a : 0x11);
    }
  });

  it("pass 64-bit results above 2^31 and 2^32 through unchanged", () => {
    assert.equal(C.labs(0xffff_ffff), 0xffff_ffff);
    const view = bytes(8);
    const address = runtime.addressOf(view);
    assert.ok(Number.isSafeInteger(address) && address > 2 ** 32, `odd address ${address}`);
  });
});

describe("buffers", () => {
  it("from bytes() stay where they are, however small", () => {
    for (let i = 0; i < 2_000; i++) {
      const view = bytes(16);
      const before = runtime.addressOf(view);
      // Bun moves a small array that has no buffer of its own when its buffer is asked for.
      view.buffer.slice(0, 1);
      if (runtime.addressOf(view) !== before) assert.fail(`moved in round ${i}`);
    }
  });

  it("stay where they are during garbage collections", () => {
    const views = Array.from({ length: 64 }, (_, i) => bytes(8 * (i + 1)));
    const before = views.map((view) => runtime.addressOf(view));
    const collect: (full: boolean) => void = (globalThis as any).Bun?.gc ?? (() => {});
    for (let i = 0; i < 50; i++) {
      // Enough garbage for a collection of either generation, where none can be asked for.
      Array.from({ length: 50_000 }, () => ({ i }));
      collect(true);
    }
    assert.deepEqual(
      views.map((view) => runtime.addressOf(view)),
      before,
    );
  });

  it("are passed by the address that addressOf tells", () => {
    const view = bytes(16);
    assert.equal(C.memset(view, 7, 16), runtime.addressOf(view));
    assert.deepEqual([...view], new Array(16).fill(7));
  });

  it("may be null", () => {
    assert.equal(libc.read(-1, null, 0), -1);
    assert.equal(errno(), EBADF);
  });

  it("refuse a NUL inside a string, which would name another file", () => {
    assert.throws(() => cString("a\0b"), /NUL/);
    assert.deepEqual([...cString("ab")], [0x61, 0x62, 0]);
  });
});

describe("errno", () => {
  it("is that of the call before, in long mixed runs", () => {
    const missing = cString("/nonexistent/ringside");
    for (let i = 0; i < 20_000; i++) {
      libc.close(-1);
      const first = errno();
      libc.open(missing, O_RDONLY, 0);
      const second = errno();
      if (first !== EBADF || second !== ENOENT) assert.fail(`round ${i}: ${first}, ${second}`);
    }
  });

  it("belongs to the thread that made the call", async () => {
    const worker = new Worker(new URL("./errno-worker.ts", import.meta.url), { type: "module" });
    const answers = await new Promise<number[]>((resolve, reject) => {
      worker.onmessage = (event) => resolve(event.data);
      worker.onerror = (event) => reject(new Error(event.message));
      const spoil = () => libc.close(-1);
      const timer = setInterval(() => {
        for (let i = 0; i < 1_000; i++) spoil();
      }, 0);
      worker.addEventListener("message", () => clearInterval(timer));
      worker.addEventListener("error", () => clearInterval(timer));
    });
    worker.terminate();
    assert.deepEqual(answers, [ENOENT]);
  });

  it("becomes a SystemError that names call, path and reason", () => {
    const path = "/nonexistent/ringside";
    assert.throws(
      () => openFile(path, O_RDONLY),
      (error) => {
        assert.ok(error instanceof SystemError);
        assert.equal(error.message, `open "${path}" failed: no such file or directory (ENOENT)`);
        const { syscall, errno, code, path: where } = error;
        assert.deepEqual(
          { syscall, errno, code, where },
          {
            syscall: "open",
            errno: ENOENT,
            code: "ENOENT",
            where: path,
          },
        );
        return true;
      },
    );
  });
});
