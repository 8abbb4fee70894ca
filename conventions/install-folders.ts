/** Where `ringside install` puts launchers and descriptors. */
import { join, resolve } from "node:path";
import { Type } from "typebox";
import { userFolder } from "./discovery.ts";

/** Launchers and descriptors go here. */
export interface Folders {
  readonly launchers: string;
  readonly descriptors: string;
}

export const prefixOption = Type.Optional(
  Type.String({
    placeholder: "DIR",
    description:
      "Use DIR/libexec/ringside and DIR/share/qemu/vhost-user. Without it: for root " +
      "/usr/local/libexec/ringside and /etc/qemu/vhost-user, for others " +
      "~/.local/libexec/ringside and ~/.config/qemu/vhost-user",
  }),
);

/** Where libvirt looks decides: it knows /usr/share and /etc, but no /usr/local and no ~/.local. */
export function foldersOf(prefix: string | undefined): Folders {
  if (prefix !== undefined) {
    const folder = resolve(prefix);
    const launchers = join(folder, "libexec", "ringside");
    return { launchers, descriptors: join(folder, "share", "qemu", "vhost-user") };
  }
  if (process.getuid?.() === 0) {
    return { launchers: "/usr/local/libexec/ringside", descriptors: "/etc/qemu/vhost-user" };
  }
  const home = process.env.HOME;
  if (!home) throw new Error("Cannot do that without --prefix: HOME is not set");
  return {
    launchers: join(home, ".local", "libexec", "ringside"),
    descriptors: userFolder(),
  };
}
