/** The JSON files by which management software finds back-ends (QEMU's vhost-user.json). */
import { chmodSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { type Static, Type } from "typebox";

/** The device types of vhost-user.json. libvirt gives up on all devices when it meets another one. */
export const deviceTypes = [
  "9p",
  "balloon",
  "block",
  "caif",
  "console",
  "crypto",
  "fs",
  "gpu",
  "input",
  "net",
  "rng",
  "rpmsg",
  "rproc-serial",
  "scsi",
  "vsock",
] as const;

/** VhostUserBackend of vhost-user.json. */
export const descriptorSchema = Type.Object({
  description: Type.String(),
  type: Type.Enum([...deviceTypes]),
  /** Absolute: it is started without a shell and without arguments of its own. */
  binary: Type.String({ pattern: "^/" }),
  tags: Type.Optional(Type.Array(Type.String())),
});

export type Descriptor = Static<typeof descriptorSchema>;
export type DeviceType = (typeof deviceTypes)[number];

/** Tells whether a device's type may stand in a descriptor. */
export function isDeviceType(type: string): type is DeviceType {
  return (deviceTypes as readonly string[]).includes(type);
}

/** Replaces a file at once: whoever reads it sees the old text or the new one, never a part. */
export function writeWhole(path: string, text: string, mode: number): void {
  mkdirSync(dirname(path), { recursive: true });
  // libvirt reads every file of the folder but those that begin with a dot.
  const draft = join(dirname(path), `.${basename(path)}.${process.pid}`);
  writeFileSync(draft, text, { mode });
  chmodSync(draft, mode);
  renameSync(draft, path);
}

/** Writes a descriptor file. */
export function writeDescriptor(path: string, descriptor: Descriptor): void {
  writeWhole(path, `${JSON.stringify(descriptor, null, 2)}\n`, 0o644);
}
