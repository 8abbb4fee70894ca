/** A pipe: the cheapest descriptor that is neither a file nor an eventfd. */
import { check, Fd, runtime } from "../../ffi/mod.ts";

const C = runtime.bind("libc.so.6", {
  // int pipe2(int ends[2], int flags)
  pipe2: { args: ["buffer", "i32"], result: "i32" },
});

export interface Pipe extends Disposable {
  readonly reader: Fd;
  readonly writer: Fd;
}

export function createPipe(flags = 0): Pipe {
  const ends = new Int32Array(new ArrayBuffer(8));
  check(C.pipe2(ends, flags), "pipe2");
  const reader = new Fd(ends[0]!);
  const writer = new Fd(ends[1]!);
  const close = () => {
    reader.close();
    writer.close();
  };
  return { reader, writer, [Symbol.dispose]: close };
}
