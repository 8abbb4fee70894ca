/** passt at the other end of a stream: it gives the guest an address. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { describe, it } from "node:test";
import { NetDriver } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { launcher, Program, until } from "../support/program.ts";
import { Namespace } from "./namespace.ts";
import { dhcpDiscover } from "./packets.ts";
import { passtCommand, passtListens, passtProblem } from "./passt.ts";

describe("passt at the network device", { skip: passtProblem() ?? false }, () => {
  it("answers DHCP with the address that it has itself", () => {
    using namespace = new Namespace();
    using folder = new Folder();
    const socket = folder.at("passt");
    const [program, ...args] = passtCommand(namespace, socket);
    const passt = spawn(program!, args, { stdio: "ignore" });
    try {
      until(() => passtListens(socket, passt.pid!), "a listening passt");
      using own = new Program([
        launcher("vhost-user-net"),
        `--stream=${socket}`,
        "--socket-path=SOCKET",
      ]);
      using driver = NetDriver.connect(own.socket);
      const mac = [2, 0, 0, 0, 0, 42];
      driver.pair.send(dhcpDiscover(mac));
      for (;;) {
        const got = driver.pair.receive(5000)?.data;
        assert.ok(got, "an offer comes");
        // UDP from port 67.
        if (got[12] !== 8 || got[13] !== 0 || got[23] !== 17 || got[35] !== 67) continue;
        assert.deepEqual([...got.subarray(42 + 16, 42 + 20)], [192, 0, 2, 2]);
        assert.deepEqual([...got.subarray(42 + 28, 42 + 34)], mac);
        break;
      }
    } finally {
      passt.kill("SIGKILL");
    }
  });
});
