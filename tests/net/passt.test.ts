/** passt at the other end of a stream: it gives the guest an address. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { describe, it } from "node:test";
import { NetDriver } from "../../frontend/mod.ts";
import { Folder } from "../support/folder.ts";
import { isListening } from "../support/process-status.ts";
import { launcher, Program, until } from "../support/program.ts";
import { Namespace, tapProblem } from "./namespace.ts";
import { dhcpDiscover } from "./packets.ts";

function problem(): string | undefined {
  if (spawnSync("passt", ["--version"]).error === undefined) return tapProblem();
  if (process.env.RINGSIDE_REQUIRE_ALL === "1") throw new Error("no passt");
  return "no passt";
}

describe("passt at the network device", { skip: problem() ?? false }, () => {
  it("answers DHCP with the address that it has itself", () => {
    using namespace = new Namespace();
    namespace.tap("up0", "192.0.2.2/24");
    namespace.ip("route", "add", "default", "via", "192.0.2.1");
    using folder = new Folder();
    // It gives up being root.
    chmodSync(folder.path, 0o777);
    const socket = folder.at("passt");
    const [program, ...args] = namespace.command("passt", "-f", "-s", socket);
    const passt = spawn(program!, args, { stdio: "ignore" });
    try {
      const there = () => {
        try {
          return isListening(socket, passt.pid!) ? true : null;
        } catch {
          return null;
        }
      };
      until(there, "a listening passt");
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
