/**
 * libvirglrenderer, which carries out a guest's OpenGL commands (virglrenderer.h, version 0.10): its
 * functions and the structures that they take. Nothing is loaded before `bindVirglrenderer`.
 */
import { runtime } from "./libc.ts";
import { PAGE_SIZE } from "./mapping.ts";
import { type Callback, type Functions, fn } from "./symbols.ts";

const LIBRARY = "libvirglrenderer.so.1";

/** Results are 0 or an error number, positive or negative; those of `void` functions mean nothing. */
const symbols = {
  // int virgl_renderer_init(void *cookie, int flags, struct virgl_renderer_callbacks *callbacks)
  virgl_renderer_init: fn(["usize", "i32", "usize"], "i32"),
  // void virgl_renderer_cleanup(void *cookie)
  virgl_renderer_cleanup: fn(["usize"], "i32"),
  // virgl_debug_callback_type virgl_set_debug_callback(void (*callback)(const char *, va_list))
  virgl_set_debug_callback: fn(["usize"], "usize"),

  // void virgl_renderer_get_cap_set(uint32_t set, uint32_t *version, uint32_t *size)
  virgl_renderer_get_cap_set: fn(["u32", "buffer", "buffer"], "i32"),
  // void virgl_renderer_fill_caps(uint32_t set, uint32_t version, void *capset)
  virgl_renderer_fill_caps: fn(["u32", "u32", "buffer"], "i32"),

  // int virgl_renderer_context_create_with_flags(uint32_t context, uint32_t flags, uint32_t length,
  //                                              const char *name)
  virgl_renderer_context_create_with_flags: fn(["u32", "u32", "u32", "buffer"], "i32"),
  // void virgl_renderer_context_destroy(uint32_t context)
  virgl_renderer_context_destroy: fn(["u32"], "i32"),
  // void virgl_renderer_ctx_attach_resource(int context, int resource)
  virgl_renderer_ctx_attach_resource: fn(["u32", "u32"], "i32"),
  // void virgl_renderer_ctx_detach_resource(int context, int resource)
  virgl_renderer_ctx_detach_resource: fn(["u32", "u32"], "i32"),

  // int virgl_renderer_resource_create(struct virgl_renderer_resource_create_args *args,
  //                                    struct iovec *iov, uint32_t count)
  virgl_renderer_resource_create: fn(["buffer", "usize", "u32"], "i32"),
  // void virgl_renderer_resource_unref(uint32_t resource)
  virgl_renderer_resource_unref: fn(["u32"], "i32"),
  // int virgl_renderer_resource_attach_iov(int resource, struct iovec *iov, int count), which keeps iov
  virgl_renderer_resource_attach_iov: fn(["u32", "usize", "i32"], "i32"),
  // void virgl_renderer_resource_detach_iov(int resource, struct iovec **iov, int *count)
  virgl_renderer_resource_detach_iov: fn(["u32", "buffer", "buffer"], "i32"),

  // int virgl_renderer_submit_cmd(void *commands, int context, int words)
  virgl_renderer_submit_cmd: fn(["buffer", "u32", "i32"], "i32"),
  // int virgl_renderer_transfer_read_iov(uint32_t resource, uint32_t context, uint32_t level,
  //     uint32_t stride, uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
  //     struct iovec *iov, int count)
  virgl_renderer_transfer_read_iov: fn(
    ["u32", "u32", "u32", "u32", "u32", "buffer", "usize", "buffer", "i32"],
    "i32",
  ),
  // int virgl_renderer_transfer_write_iov(uint32_t resource, uint32_t context, int level,
  //     uint32_t stride, uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
  //     struct iovec *iov, unsigned count)
  virgl_renderer_transfer_write_iov: fn(
    ["u32", "u32", "i32", "u32", "u32", "buffer", "usize", "buffer", "u32"],
    "i32",
  ),

  // int virgl_renderer_create_fence(int fence, uint32_t context)
  virgl_renderer_create_fence: fn(["i32", "u32"], "i32"),
  // void virgl_renderer_poll(void)
  virgl_renderer_poll: fn([], "i32"),
};

export type Virglrenderer = Functions<typeof symbols>;

/** Loads the library. Throws `Error` with one sentence where there is none. */
export function bindVirglrenderer(): Virglrenderer {
  try {
    return runtime.bind(LIBRARY, symbols);
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    const why = text.replace(/\s*\n\s*/g, " ");
    throw new Error(`Cannot load the renderer ${LIBRARY}: ${why}`, { cause });
  }
}

/** VIRGL_RENDERER_USE_EGL, VIRGL_RENDERER_USE_SURFACELESS. */
export const VIRGL_USE_EGL = 1;
export const VIRGL_USE_SURFACELESS = 8;

/** struct virgl_renderer_callbacks, as far as version 2 goes. */
const CALLBACKS = { size: 48, version: 0, writeFence: 8, getDrmFd: 40 } as const;
const CALLBACKS_VERSION = 2;

/** What the library calls, all on our own thread. None of it may throw. */
export interface VirglCallbacks {
  /** All up to this fence have passed. */
  writeFence(fence: number): void;
  /** The number of a descriptor of the render node, which the library closes; -1 without one. */
  readonly getDrmFd: (() => number) | null;
  /** The library says something: a format of printf, without its values. */
  say(format: string): void;
}

/** struct virgl_renderer_callbacks for `virgl_renderer_init`, and the functions that C may call. */
export interface VirglCallbackTable {
  readonly address: number;
  /** For `virgl_set_debug_callback`. */
  readonly debug: Callback;
  readonly functions: readonly Callback[];
}

/** Bytes of a format that are read at most. */
const FORMAT_LIMIT = 200;

/** The text at an address, up to its end or that of its page. */
function textAt(address: number): string {
  if (address === 0) return "";
  const length = Math.min(FORMAT_LIMIT, PAGE_SIZE - (address % PAGE_SIZE));
  const bytes = new Uint8Array(runtime.view(address, length));
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.slice(0, end < 0 ? length : end)).trim();
}

/** Makes the callbacks in `words`, which are at `address` and stay there. */
export function writeVirglCallbacks(
  callbacks: VirglCallbacks,
  address: number,
  words: Uint32Array,
): VirglCallbackTable {
  words.fill(0, 0, CALLBACKS.size / 4);
  words[CALLBACKS.version / 4] = CALLBACKS_VERSION;
  const functions: Callback[] = [];
  const set = (at: number, callback: Callback): void => {
    functions.push(callback);
    words[at / 4] = callback.address >>> 0;
    words[at / 4 + 1] = Math.floor(callback.address / 2 ** 32);
  };
  // void write_fence(void *cookie, uint32_t fence)
  const writeFence = (_cookie = 0, fence = 0): number => {
    callbacks.writeFence(fence >>> 0);
    return 0;
  };
  set(CALLBACKS.writeFence, runtime.callback(fn(["usize", "u32"], "i32"), writeFence));
  const { getDrmFd } = callbacks;
  // int get_drm_fd(void *cookie)
  if (getDrmFd !== null) {
    set(
      CALLBACKS.getDrmFd,
      runtime.callback(fn(["usize"], "i32"), () => getDrmFd()),
    );
  }
  // void debug(const char *format, va_list values)
  const debug = runtime.callback(fn(["usize", "usize"], "i32"), (format) => {
    callbacks.say(textAt(format!));
    return 0;
  });
  return { address, debug, functions };
}

/** struct virgl_renderer_resource_create_args: 32-bit words, by their index. */
export const ResourceArgs = {
  words: 11,
  handle: 0,
  target: 1,
  format: 2,
  bind: 3,
  width: 4,
  height: 5,
  depth: 6,
  arraySize: 7,
  lastLevel: 8,
  samples: 9,
  flags: 10,
} as const;

/** struct virgl_box: 32-bit words, by their index. */
export const Box = { words: 6, x: 0, y: 1, z: 2, width: 3, height: 4, depth: 5 } as const;
