#!/bin/bash
# Build the initial file systems of the guests, LAB/qemu.cpio and LAB/uml.cpio, from what setup.sh
# unpacked. usage: initramfs.sh LAB
# Quick when nothing changed. Uncompressed on purpose: under TCG reading is faster than inflating.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB=$1
ROOT=$LAB/root
LOADER=lib64/ld-linux-x86-64.so.2
LIBRARIES=lib/x86_64-linux-gnu
QEMU_MODULES="virtio_pci virtio_blk virtio-rng virtio_net af_packet ext4 crc32c_generic virtio_input evdev uinput"
UML_MODULES="virtio_blk virtio_net"
GUEST_PROGRAMS="sbin/mkfs.ext4 sbin/e2fsck sbin/blkdiscard"

# Copy one dynamic program to /tools, for busybox takes its own of that name whatever PATH says, and
# the libraries it needs; the loader of root/ tells which.
add_program() {
  local tree=$1 file=$2 library
  install -D -m755 "$ROOT/$file" "$tree/tools/$(basename "$file")"
  "$ROOT/$LOADER" --library-path "$ROOT/usr/$LIBRARIES:$ROOT/$LIBRARIES" --list "$ROOT/$file" |
    awk '$2 == "=>" { print $3 }' | while read -r library; do
    install -D -m755 "$library" "$tree/$LIBRARIES/$(basename "$library")"
  done
  install -D -m755 "$ROOT/$LOADER" "$tree/$LOADER"
}

# Copy modules, and name them in the order in which they must be loaded.
# usage: add_modules TREE BASE VERSION MODULE...
add_modules() {
  local tree=$1 base=$2 version=$3 module file name
  shift 3
  [ -f "$base/lib/modules/$version/modules.dep" ] || "$LAB/run" depmod -b "$base" "$version"
  for module in "$@"; do
    "$LAB/run" modprobe -d "$base" -S "$version" --show-depends "$module" |
      awk '$1 == "insmod" { print $2 }' | while read -r file; do
      name=$(basename "$file" .xz)
      if grep -qx "$name" "$tree/modules/order"; then continue; fi
      case $file in
        *.xz) "$LAB/run" xz -dc "$file" >"$tree/modules/$name" ;;
        *) cp "$file" "$tree/modules/$name" ;;
      esac
      echo "$name" >>"$tree/modules/order"
    done
  done
}

start_tree() {
  local tree=$1
  mkdir -p "$tree"/{bin,lib,lib64,modules,proc,sys,dev,tmp,mnt,run,etc}
  : >"$tree/modules/order"
  : >"$tree/etc/mtab"
  install -m755 "$ROOT/bin/busybox" "$tree/bin/busybox"
  ln -s busybox "$tree/bin/sh"
  install -m755 "$here/init.sh" "$tree/init"
}

pack() {
  (cd "$1" && find . | LC_ALL=C sort | "$LAB/run" cpio -o -H newc --quiet) >"$2.new"
  mv "$2.new" "$2"
}

build_qemu() {
  local tree=$1/qemu program
  start_tree "$tree"
  add_modules "$tree" "$LAB/kernel" "$(ls "$LAB/kernel/lib/modules")" $QEMU_MODULES
  for program in $GUEST_PROGRAMS; do add_program "$tree" "$program"; done
  pack "$tree" "$LAB/qemu.cpio"
}

# depmod wants the layout lib/modules/VERSION, the Debian package has another one.
build_uml() {
  local tree=$1/uml version
  version=$(ls "$LAB/uml/usr/lib/uml/modules")
  mkdir -p "$LAB/uml/lib"
  ln -sfn ../usr/lib/uml/modules "$LAB/uml/lib/modules"
  start_tree "$tree"
  add_modules "$tree" "$LAB/uml" "$version" $UML_MODULES
  pack "$tree" "$LAB/uml.cpio"
}

stamp=$(cat "$here/init.sh" "$here/initramfs.sh" "$LAB/ready" | cksum)
if [ "$(cat "$LAB/initramfs.stamp" 2>/dev/null)" != "$stamp" ]; then
  echo "lab: building the initial file systems"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  build_qemu "$work"
  build_uml "$work"
  echo "$stamp" >"$LAB/initramfs.stamp"
fi
touch "$LAB/qemu.cpio" "$LAB/uml.cpio" # tests/guest/lab.ts compares their times with our sources'
