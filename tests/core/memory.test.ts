/** Guest memory: finding addresses, changing the table, and what files may be shared. */
import assert from "node:assert/strict";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { ProtocolError } from "../../core/errors.ts";
import { GuestMemory, type RegionSpec } from "../../core/memory.ts";
import { MAX_MEM_SLOTS } from "../../core/protocol.ts";
import {
  createEventFd,
  createMemfd,
  type Fd,
  libc,
  O_RDONLY,
  O_RDWR,
  openFile,
  WINDOW_SIZE,
} from "../../ffi/mod.ts";
import { TestGuest, userAddress } from "./guest.ts";

const PAGE = 4096;
const USER = 0x7000_0000_0000;

const spec = (guestAddress: number, size: number, over: Partial<RegionSpec> = {}): RegionSpec => ({
  guestAddress,
  size,
  userAddress: guestAddress + USER,
  mmapOffset: 0,
  ...over,
});

describe("GuestMemory.find()", () => {
  const guest = new TestGuest([
    { guestAddress: 0x1000, size: PAGE, at: PAGE },
    { guestAddress: 0x2000, size: 2 * PAGE, at: 2 * PAGE },
    { guestAddress: 0x10000, size: 0x1801, at: 0x4000 },
    { guestAddress: 2 ** 40, size: 2 * WINDOW_SIZE + PAGE, at: 0, file: 1 },
  ]);
  after(() => guest[Symbol.dispose]());
  const { memory } = guest;

  test("finds the first and the last byte of each region and nothing beside", () => {
    for (const { guestAddress, size } of guest.regions) {
      const last = guestAddress + size - 1;
      for (const address of [guestAddress, last]) {
        const window = memory.find(address)!;
        assert.ok(address >= window.base && address < window.end, `${address}`);
        guest.write(address, Uint8Array.of(address % 251));
        assert.equal(window.u8[address - window.origin], address % 251);
        assert.equal(window.data.getUint8(address - window.origin), address % 251);
      }
    }
    for (const address of [0, 0xfff, 0x4000, 0xffff, 0x11801, 2 ** 40 - 1, -1, 2 ** 53 - 1]) {
      assert.equal(memory.find(address), null, `${address}`);
    }
    assert.equal(memory.find(2 ** 40 + 2 * WINDOW_SIZE + PAGE), null);
  });

  test("cuts a region into windows of 1 GiB", () => {
    const bases = [0, 1, 2].map((i) => 2 ** 40 + i * WINDOW_SIZE);
    bases.forEach((base, i) => {
      const window = memory.find(base)!;
      assert.equal(window.base, base);
      assert.equal(window.end, i < 2 ? base + WINDOW_SIZE : base + PAGE);
      if (i > 0) assert.equal(memory.find(base - 1)!.end, base);
    });
  });

  test("ends a window where the region ends, within a page too", () => {
    assert.equal(memory.find(0x11800)!.end, 0x11801);
  });

  test("finds the same after any other address", () => {
    const addresses = [0x1000, 0x1fff, 0x2000, 0x3fff, 0x10000, 0x11800, 2 ** 40, 0, 0x5000];
    const fresh = addresses.map((address) => memory.find(address)?.base);
    for (const before of addresses) {
      addresses.forEach((address, i) => {
        memory.find(before);
        assert.equal(memory.find(address)?.base, fresh[i]);
      });
    }
  });
});

describe("GuestMemory.findUser()", () => {
  const guest = new TestGuest([
    { guestAddress: 0x1000, size: PAGE, at: 0 },
    { guestAddress: 0x2000, size: PAGE, at: PAGE },
  ]);
  after(() => guest[Symbol.dispose]());
  const { memory } = guest;

  test("finds a range that lies in one region", () => {
    const found = memory.findUser(userAddress(0x1000), PAGE)!;
    assert.equal(found.guestAddress, 0x1000);
    assert.equal(memory.findUser(userAddress(0x1ff0), 16)!.host, found.host + 0xff0);
    assert.equal(memory.findUser(userAddress(0x2fff), 1)!.guestAddress, 0x2fff);
  });

  test("finds nothing that crosses a region's end, even into the next one", () => {
    assert.equal(memory.findUser(userAddress(0x1ff0), 17), null);
    assert.equal(memory.findUser(userAddress(0x2ff0), 17), null);
    assert.equal(memory.findUser(userAddress(0xfff), 2), null);
    assert.equal(memory.findUser(userAddress(0x1000), 2 * PAGE), null);
  });

  test("does not mix up user and guest addresses", () => {
    assert.equal(memory.findUser(0x1000, 1), null);
    assert.equal(memory.find(userAddress(0x1000)), null);
  });
});

describe("The memory table", () => {
  const file = createMemfd("ringside-test", 1024 * PAGE);
  const folder = mkdtempSync(join(tmpdir(), "ringside-memory-"));
  after(() => {
    file.close();
    rmSync(folder, { recursive: true });
  });

  function withTable(body: (memory: GuestMemory) => void): void {
    using memory = new GuestMemory();
    memory.replace([spec(0, PAGE)], [file]);
    body(memory);
  }

  const refuses = (change: () => void, reason: RegExp) =>
    assert.throws(change, (error) => error instanceof ProtocolError && reason.test(error.message));

  test("refuses regions whose guest addresses overlap", () => {
    withTable((memory) => {
      const user = { userAddress: 0x1000_0000 };
      for (const [at, size] of [
        [0, PAGE],
        [PAGE - 1, PAGE],
        [0, 1],
        [0, 8 * PAGE],
      ]) {
        refuses(() => memory.add(spec(at!, size!, user), file, 8), /overlaps the one at 0x0/);
      }
      memory.add(spec(PAGE, PAGE), file, 8);
      assert.equal(memory.regions.length, 2);
    });
  });

  test("refuses regions whose user addresses overlap", () => {
    withTable((memory) => {
      refuses(
        () => memory.add(spec(0x10000, PAGE, { userAddress: USER + PAGE - 1 }), file, 8),
        /user addresses overlap/,
      );
      memory.add(spec(0x10000, PAGE, { userAddress: USER + PAGE }), file, 8);
    });
  });

  test("keeps the old table when a new one is refused", () => {
    withTable((memory) => {
      const [old] = memory.regions;
      const specs = [spec(0x10000, PAGE), spec(0x10000 + PAGE - 1, PAGE)];
      refuses(() => memory.replace(specs, [file, file]), /overlap/);
      const beyond = [spec(0x10000, PAGE), spec(0x20000, PAGE, { mmapOffset: 1024 * PAGE })];
      refuses(() => memory.replace(beyond, [file, file]), /the file has 4194304/);
      assert.deepEqual(memory.regions, [old]);
      assert.equal(memory.find(0x10000), null);
      const window = memory.find(0)!;
      window.u8[0] = 1;
      assert.equal(window.u8[0], 1, "its memory is still there");
    });
  });

  test("forgets the old table when a new one is accepted, also an empty one", () => {
    withTable((memory) => {
      assert.notEqual(memory.find(0), null);
      memory.replace([spec(0x10000, PAGE)], [file]);
      assert.equal(memory.find(0), null);
      assert.notEqual(memory.find(0x10000), null);
      memory.replace([], []);
      assert.equal(memory.find(0x10000), null);
      assert.equal(memory.findUser(USER + 0x10000, 1), null);
    });
  });

  test("matches a region by addresses and size, not by its place in the file", () => {
    withTable((memory) => {
      memory.add(spec(0x10000, PAGE, { mmapOffset: 2 * PAGE }), file, 8);
      const wanted = spec(0x10000, PAGE);
      assert.equal(memory.match(wanted)?.spec.mmapOffset, 2 * PAGE);
      assert.equal(memory.match({ ...wanted, size: 2 * PAGE }), undefined);
      assert.equal(memory.match({ ...wanted, userAddress: 1 }), undefined);
      memory.remove(memory.match(wanted)!);
      assert.equal(memory.find(0x10000), null);
      assert.notEqual(memory.find(0), null);
      assert.equal(memory.match(wanted), undefined);
    });
  });

  test("has 509 slots and finds every byte with all of them in use", () => {
    using memory = new GuestMemory();
    // Every other page, the highest first.
    const at = (i: number) => (MAX_MEM_SLOTS - i) * 2 * PAGE;
    for (let i = 0; i < MAX_MEM_SLOTS; i++) {
      memory.add(spec(at(i), PAGE, { mmapOffset: i * PAGE }), file, MAX_MEM_SLOTS);
    }
    refuses(() => memory.add(spec(0, PAGE), file, MAX_MEM_SLOTS), /all 509 slots are in use/);
    for (let i = 0; i < MAX_MEM_SLOTS; i++) {
      assert.equal(memory.find(at(i))?.base, at(i));
      assert.equal(memory.find(at(i) + PAGE - 1)?.end, at(i) + PAGE);
      assert.equal(memory.find(at(i) + PAGE), null);
      assert.equal(memory.findUser(USER + at(i), PAGE)?.guestAddress, at(i));
    }
  });

  test("maps from any offset of the file", () => {
    using memory = new GuestMemory();
    memory.replace([spec(0, PAGE, { mmapOffset: 123 })], [file]);
    using whole = new GuestMemory();
    whole.replace([spec(0, 2 * PAGE)], [file]);
    const [part, all] = [memory.find(0)!, whole.find(0)!];
    all.u8[123 - all.origin] = 77;
    assert.equal(part.u8[0 - part.origin], 77);
    assert.equal(memory.find(PAGE - 1), part);
    assert.equal(memory.find(PAGE), null);
    assert.equal(memory.find(-1), null);
  });

  test("keeps shared memory from shrinking under it", () => {
    using own = createMemfd("ringside-shrink", 4 * PAGE);
    using memory = new GuestMemory();
    memory.replace([spec(0, 4 * PAGE)], [own]);
    assert.ok(libc.ftruncate(own.number, PAGE) < 0);
    assert.equal(memory.find(3 * PAGE)!.u8[3 * PAGE], 0);
  });

  test("refuses what is too small, or cannot be mapped, and takes no descriptor", () => {
    const small = join(folder, "small");
    writeFileSync(small, new Uint8Array(PAGE));
    truncateSync(small, PAGE - 1);
    const wrong: readonly (() => Fd)[] = [
      () => openFile(small, O_RDWR),
      () => openFile(small, O_RDONLY),
      () => openFile(folder, O_RDONLY),
      () => openFile("/dev/zero", O_RDWR),
      createEventFd,
    ];
    withTable((memory) => {
      for (const open of wrong) {
        using fd = open();
        assert.throws(() => memory.add(spec(0x10000, PAGE), fd, 8), ProtocolError);
        assert.throws(() => memory.replace([spec(0x10000, PAGE)], [fd]), ProtocolError);
        assert.equal(libc.fcntl(fd.number, 1, 0) >= 0, true, "the descriptor is the caller's");
      }
      assert.equal(memory.regions.length, 1);
    });
  });

  test("refuses a file that is open for reading only", () => {
    const path = join(folder, "read-only");
    writeFileSync(path, new Uint8Array(PAGE));
    using fd = openFile(path, O_RDONLY);
    withTable((memory) => {
      assert.throws(() => memory.add(spec(0x10000, PAGE), fd, 8), /EACCES/);
    });
  });

  test("is never used for anything else once a device may go on writing to it", () => {
    const place = (haunted: boolean): boolean => {
      using memory = new GuestMemory();
      memory.replace([spec(0, 16 * PAGE)], [file]);
      const address = memory.find(0)!.host;
      if (haunted) memory.haunt();
      memory.replace([], []);
      memory.replace([spec(0, 16 * PAGE)], [file]);
      return memory.find(0)!.host === address;
    };
    assert.equal(place(false), true, "memory that nobody writes to is used again");
    assert.equal(place(true), false);
  });

  test("leaves descriptors and mappings as they were after hundreds of changes", () => {
    using memory = new GuestMemory();
    const specs = Array.from({ length: 8 }, (_, i) => spec(i * 0x10000, (1 + (i % 3)) * PAGE));
    const fds = specs.map(() => file);
    const turn = (): void => {
      memory.replace(specs, fds);
      memory.add(spec(0x100_0000, PAGE), file, 9);
      assert.throws(() => memory.replace([specs[0]!, specs[0]!], fds), ProtocolError);
      memory.remove(memory.match(spec(0x100_0000, PAGE))!);
    };
    for (let i = 0; i < 20; i++) turn();
    const before = [descriptors(), mappings()] as const;
    for (let i = 0; i < 300; i++) turn();
    assert.equal(descriptors(), before[0]);
    // The runtime's own mappings come and go; a leak would be thousands.
    assert.ok(mappings() - before[1] < 50, `${before[1]} mappings became ${mappings()}`);
  });
});

const descriptors = () => readdirSync("/proc/self/fd").length;
const mappings = () => readFileSync("/proc/self/maps", "utf8").split("\n").length;
