#!/bin/bash
# Installs the Debian packages of the groups named (deploy/packages.txt), those that are missing:
#     deploy/packages.sh build server
# Touches nothing, and needs no privileges, where all are there. Debian starts a redis on port 6379 when redis-server is
# installed; nothing here uses it or counts on it (`systemctl disable --now redis-server` ends it).
set -euo pipefail

list=$(dirname "${BASH_SOURCE[0]}")/packages.txt

packages_of() {  # GROUP...
  local group
  for group in "$@"; do
    awk -v group="$group" '!/^#/ && NF == 2 && index("," $1 ",", "," group ",") { print $2 }' "$list"
  done | sort -u
}

is_installed() { [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "packages.sh: missing packages and neither root nor sudo; install them yourself: ${missing[*]}" >&2
    return 1
  fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=500 -o Acquire::Retries=3 -qq "$@" </dev/null
}

if (($# == 0)); then
  echo "usage: deploy/packages.sh build|runtime|server|check|bench..." >&2
  exit 2
fi
mapfile -t wanted < <(packages_of "$@")
if ((${#wanted[@]} == 0)); then
  echo "packages.sh: no package belongs to: $*" >&2
  exit 2
fi
if ! command -v dpkg-query >/dev/null; then
  echo "packages.sh: not a Debian; what is needed is called there: ${wanted[*]}" >&2
  exit 0
fi
missing=()
for package in "${wanted[@]}"; do
  is_installed "$package" || missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit 0; fi

echo "installing: ${missing[*]}"
# Old package lists name files that are gone: so a failure is tried once more behind an update, a success needs none.
if ! apt install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
  apt update
  apt install -y --no-install-recommends "${missing[@]}" >/dev/null
fi
