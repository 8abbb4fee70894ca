# Debian packages without installing them, for the scripts beside this one. Sets nothing; $LAB is the folder
# that they unpack to.

say() { echo "lab: $*"; }
die() { echo "lab: $*" >&2; exit 1; }

# apt with lists, cache and "installed" state of its own: whole dependency closures come out, and
# the system stays as it is.
lab_apt() {
  local tool=$1 apt=$LAB/apt
  shift
  "$tool" -qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status" \
    -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root -o Debug::NoLocking=1 \
    -o Acquire::Retries=3 "$@"
}

# The mirror is the one that this system's own apt uses, whatever the form of its source lists.
prepare_apt() {
  local codename mirror
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' \
    'Created-By: Packages' | awk -v c="$codename" '$1 == c && $2 == "main" { print $3; exit }')
  [ -n "$mirror" ] ||
    die "this system's apt has no source for \"$codename main\": Debian 12 or newer is needed"
  mkdir -p "$LAB/apt/lists/partial" "$LAB/apt/cache/archives/partial"
  : >"$LAB/apt/status"
  echo "deb $mirror $codename main" >"$LAB/apt/sources.list"
  # Debian 12 has QEMU 7.2, which cannot start some vhost-user devices: take 10 from its backports.
  if [ "$codename" = bookworm ]; then
    echo "deb $mirror bookworm-backports main" >>"$LAB/apt/sources.list"
  fi
  say "reading package lists ($codename)"
  lab_apt apt-get update || die "apt-get update failed for $mirror"
}
