#!/bin/bash
# Obtains servers newer than Debian 12's, for tests against them, without touching the system's packages or its sources:
#     tests/support/newer_servers.sh DIRECTORY
# An apt of its own (DIRECTORY/apt) takes Debian 13's packages from the mirror that the system itself is set to, with the
# system's keys and proxy. They are unpacked, not installed, and run with the C library they came with. Prints the paths of
#     DIRECTORY/bin/redis-server-8   DIRECTORY/bin/valkey-server-8
# which are used like the real ones. What is already there is only printed. Exit code 3: not to be had here, and why.
set -euo pipefail

readonly suite=trixie
readonly packages=(redis-server redis-tools valkey-server valkey-tools)
readonly key_ring=/usr/share/keyrings/debian-archive-keyring.gpg

if (($# != 1)); then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
mkdir -p "$1"
directory=$(cd "$1" && pwd)
readonly directory
readonly root=$directory/root

unobtainable() {
  echo "newer_servers.sh: not obtainable: $*" >&2
  exit 3
}

wrapper_works() { [[ -x $1 ]] && "$1" --version >/dev/null 2>&1; }

print_and_leave_if_complete() {
  local name
  for name in redis-server-8 valkey-server-8; do
    wrapper_works "$directory/bin/$name" || return 0
  done
  printf '%s\n' "$directory/bin/redis-server-8" "$directory/bin/valkey-server-8"
  exit 0
}

# The first mirror of Debian's main archive that the system names, in either format of its sources.
mirror() {
  local line
  line=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) +[a-z]+ .*\bmain\b.*/\2/p' | grep -v -e security -e backports | head -n 1) || true
  if [[ -z $line ]]; then
    line=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
      awk '/^URIs:/ { print $2 }' | grep -E '/debian/?$' | head -n 1) || true
  fi
  echo "$line"
}

write_configuration() {  # MIRROR
  mkdir -p "$directory"/apt/{etc,state/lists/partial,cache/archives/partial} "$directory/debs"
  echo "deb [signed-by=$key_ring] $1 $suite main" >"$directory/apt/etc/sources.list"
  : >"$directory/apt/state/status"
  cat >"$directory/apt/apt.conf" <<CONF
Dir::Etc::SourceList "$directory/apt/etc/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::Preferences "-";
Dir::Etc::PreferencesParts "$directory/apt/etc";
Dir::Etc::Main "/etc/apt/apt.conf";
Dir::Etc::Parts "/etc/apt/apt.conf.d";
Dir::State "$directory/apt/state";
Dir::State::Status "$directory/apt/state/status";
Dir::Cache "$directory/apt/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
}

own_apt() { APT_CONFIG=$directory/apt/apt.conf apt-get -qq "$@" </dev/null; }

# All that the servers need at run time, as the archive itself says; a dependency's maintainer scripts are not run.
closure() {
  own_apt install --simulate "${packages[@]}" | awk '$1 == "Inst" { print $2 }'
}

fetch() {
  local wanted
  own_apt update || unobtainable "the mirror does not give $suite"
  mapfile -t wanted < <(closure | grep -E -e '^(redis|valkey)-' -e '^lib' | cut -d: -f1)
  ((${#wanted[@]} >= ${#packages[@]})) || unobtainable "$suite has no ${packages[*]}"
  (cd "$directory/debs" && own_apt download "${wanted[@]}") || unobtainable "the packages can't be downloaded"
}

unpack() {
  local package
  rm -rf "$root"
  mkdir -p "$root"
  for package in "$directory"/debs/*.deb; do
    dpkg -x "$package" "$root"
  done
}

write_wrapper() {  # NAME PROGRAM
  local loader libraries
  loader=$(find "$root" -name 'ld-linux*.so.*' -print -quit)
  [[ -n $loader ]] || unobtainable "no dynamic loader among the packages"
  libraries=$(find "$root" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd:)
  mkdir -p "$directory/bin"
  cat >"$directory/bin/$1" <<WRAPPER
#!/bin/sh
exec "$loader" --library-path "$libraries" "$root/usr/bin/$2" "\$@"
WRAPPER
  chmod +x "$directory/bin/$1"
  wrapper_works "$directory/bin/$1" || unobtainable "$2 of $suite does not run here"
}

print_and_leave_if_complete
for tool in apt-get dpkg; do
  command -v "$tool" >/dev/null || unobtainable "no $tool: not a Debian"
done
[[ -r $key_ring ]] || unobtainable "no $key_ring"
uri=$(mirror)
[[ -n $uri ]] || unobtainable "the system names no mirror"
write_configuration "$uri"
fetch
unpack
write_wrapper redis-server-8 redis-server
write_wrapper valkey-server-8 valkey-server
print_and_leave_if_complete
