#!/bin/bash
# Make a disk of a Debian that draws, ${RINGSIDE_CACHE:-<repository>/.cache}/lab/graphics.ext4: Mesa with its
# driver for virtio-gpu, and kmscube and eglinfo, to be used by chroot.
# usage: graphics.sh [--force]
# Needs what setup.sh has made. About 90 MB of downloads, 20 s, 500 MB. Does nothing when all is there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB=$(realpath -m "${RINGSIDE_CACHE:-$here/../../../.cache}")/lab
PROGRAMS="kmscube mesa-utils libgl1-mesa-dri libegl1 libegl-mesa0 libgles2 libgbm1"
VERSION=1 # raise it when what is unpacked changes

# shellcheck source=apt.sh
. "$here/apt.sh"

unpack() {
  local tree=$1 deb
  say "downloading Mesa and programs that draw"
  # shellcheck disable=SC2086 # a list of words
  lab_apt apt-get install --download-only --no-install-recommends -y $PROGRAMS >/dev/null
  mkdir -p "$tree"/{dev,proc,sys,tmp}
  for deb in "$LAB"/apt/cache/archives/*.deb; do dpkg-deb -x "$deb" "$tree"; done
  rm -rf "$tree"/usr/share/{doc,man,locale,lintian,info,icons,fonts} "$tree"/usr/lib/systemd
}

main() {
  if [ "${1:-}" = --force ]; then rm -f "$LAB/graphics.ready"; fi
  [ "$(cat "$LAB/graphics.ready" 2>/dev/null)" != "$VERSION" ] || return 0
  [ -x "$LAB/run" ] || die "no lab in $LAB: run setup.sh first"
  local tree=$LAB/graphics
  rm -rf "$LAB/graphics.ready" "$LAB/apt" "$tree"
  prepare_apt
  unpack "$tree"
  say "making the disk"
  rm -f "$LAB/graphics.ext4"
  "$LAB/run" mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$tree" "$LAB/graphics.ext4" \
    "$(($(du -sm "$tree" | cut -f1) * 5 / 4 + 32))M"
  rm -rf "$tree" "$LAB/apt"
  echo "$VERSION" >"$LAB/graphics.ready"
  say "ready: $LAB/graphics.ext4"
}

main "$@"
