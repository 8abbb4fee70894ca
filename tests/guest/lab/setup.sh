#!/bin/bash
# Unpack everything that the guest tests need below ${RINGSIDE_CACHE:-<repository>/.cache}/lab:
#   root/     QEMU 10, busybox, e2fsprogs, util-linux, kmod and every library they need
#   kernel/   vmlinux and the modules of the Debian kernel
#   uml/      User-Mode Linux and its modules
#   run       runs one program of root/:  run qemu-system-x86_64 --version
#   qemu.cpio, uml.cpio   the two initial file systems of the guests
# usage: setup.sh [--force]
# Needs apt on Debian 12 or newer, but neither root nor the installation of any package. About
# 150 MB of downloads, 15 s, 700 MB unpacked. Does nothing when all is there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB=$(realpath -m "${RINGSIDE_CACHE:-$here/../../../.cache}")/lab
PROGRAMS="qemu-system-x86 qemu-utils busybox-static e2fsprogs util-linux kmod cpio xz-utils"
# QEMU's display by D-Bus, and what it is linked with of a whole OpenGL.
DISPLAY_PARTS="qemu-system-modules-opengl libepoxy0 libgbm1 libdrm2 libexpat1"
VERSION=4 # raise it when what is unpacked changes

# shellcheck source=apt.sh
. "$here/apt.sh"

unpack_programs() {
  say "downloading QEMU, busybox, e2fsprogs and their libraries"
  local release=()
  if grep -q backports "$LAB/apt/sources.list"; then release=(-t bookworm-backports); fi
  # shellcheck disable=SC2086 # a list of words
  lab_apt apt-get install --download-only --no-install-recommends -y "${release[@]}" $PROGRAMS \
    >/dev/null
  # shellcheck disable=SC2086 # a list of words
  (cd "$LAB/apt/cache/archives" && lab_apt apt-get download "${release[@]}" $DISPLAY_PARTS)
  rm -rf "$LAB/root"
  mkdir -p "$LAB/root"
  local deb
  for deb in "$LAB"/apt/cache/archives/*.deb; do dpkg-deb -x "$deb" "$LAB/root"; done
  rm -rf "$LAB"/root/usr/share/{doc,man,locale,lintian,info}
}

# The kernel is decompressed here once: TCG needs 3 s for that at each boot.
unpack_kernel() {
  local package image at
  package=$(lab_apt apt-cache depends linux-image-amd64 |
    awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
  [ -n "$package" ] || die "linux-image-amd64 names no kernel package in $LAB/apt/sources.list"
  say "downloading $package"
  rm -rf "$LAB/kernel" "$LAB/kernel.deb"
  mkdir -p "$LAB/kernel.deb"
  (cd "$LAB/kernel.deb" && lab_apt apt-get download "$package")
  dpkg-deb -x "$LAB"/kernel.deb/*.deb "$LAB/kernel"
  rm -rf "$LAB/kernel.deb"
  image=$(ls "$LAB"/kernel/boot/vmlinuz-*)
  at=$(LC_ALL=C grep -obUaP -m1 '\xfd7zXZ\x00' "$image" | LC_ALL=C cut -d: -f1 | head -n 1 ||
    true)
  # The file goes on after the compressed kernel, so tail ends early: only the result tells success.
  tail -c +$((${at:-0} + 1)) "$image" |
    "$LAB/run" xz -dc --single-stream >"$LAB/kernel/vmlinux" 2>/dev/null || true
  if ! head -c 4 "$LAB/kernel/vmlinux" | grep -q ELF; then
    say "cannot decompress $image: booting it as it is, which is slower"
    cp "$image" "$LAB/kernel/vmlinux"
  fi
}

unpack_uml() {
  say "downloading User-Mode Linux"
  rm -rf "$LAB/uml" "$LAB/uml.deb"
  mkdir -p "$LAB/uml.deb"
  (cd "$LAB/uml.deb" && lab_apt apt-get download user-mode-linux)
  dpkg-deb -x "$LAB"/uml.deb/*.deb "$LAB/uml"
  rm -rf "$LAB/uml.deb"
}

# The unpacked loader runs the unpacked programs: the C library of this system need not fit them.
write_runner() {
  cat >"$LAB/run" <<'RUN'
#!/bin/bash
# Run one program of the unpacked root.  usage: run PROGRAM [ARGUMENT...]
root=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/root
libraries=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
name=$1
shift
for folder in usr/bin usr/sbin bin sbin usr/lib/qemu; do
  program=$root/$folder/$name
  # Absolute links, as that of depmod to /bin/kmod, mean the unpacked file.
  target=$(readlink "$program") && [ "${target#/}" != "$target" ] && program=$root$target
  [ -x "$program" ] && break
  program=
done
if [ -z "${program:-}" ]; then
  echo "run: no program named $name in $root" >&2
  exit 127
fi
export QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu
data=()
case $name in
  qemu-system-*)
    for part in share/qemu share/seabios lib/ipxe/qemu; do data+=(-L "$root/usr/$part"); done
    ;;
esac
exec "$root/lib64/ld-linux-x86-64.so.2" --argv0 "$name" --library-path "$libraries" \
  "$program" "${data[@]}" "$@"
RUN
  chmod +x "$LAB/run"
}

main() {
  [ "$(uname -m)" = x86_64 ] || die "the guest lab is for x86_64 hosts, this one is $(uname -m)"
  if [ "${1:-}" = --force ]; then rm -rf "$LAB/ready"; fi
  if [ "$(cat "$LAB/ready" 2>/dev/null)" != "$VERSION" ]; then
    local tool
    for tool in apt-get dpkg-deb; do
      command -v "$tool" >/dev/null || die "no $tool: the lab is unpacked from Debian packages"
    done
    if ! mkdir -p "$LAB" 2>/dev/null || [ ! -w "$LAB" ]; then
      die "cannot write to $LAB: run as its owner, or set RINGSIDE_CACHE to another folder"
    fi
    rm -rf "$LAB/ready" "$LAB/apt"
    prepare_apt
    unpack_programs
    write_runner
    unpack_kernel
    unpack_uml
    rm -rf "$LAB/apt"
    echo "$VERSION" >"$LAB/ready"
  fi
  "$here/initramfs.sh" "$LAB"
  say "ready in $LAB: $("$LAB/run" qemu-system-x86_64 --version | sed -n 1p)," \
    "kernel $(ls "$LAB/kernel/lib/modules"), UML $(ls "$LAB/uml/usr/lib/uml/modules")"
}

main "$@"
