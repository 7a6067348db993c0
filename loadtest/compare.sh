#!/bin/sh
# The same load against Redis, twemproxy, nearcached and a bare epoll loop, side by side: loadtest/compare.sh --help
# Builds the two programs of this folder if need be; nearcached itself is taken from build/release as it is.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${NEARCACHED_BUILD:-$root/build/release}
case " $* " in *" --help "*) ;; *)
  if [ ! -x "$build/nearcached_load" ] || [ ! -x "$build/nearcached_bare_loop" ]; then
    [ -f "$build/build.ninja" ] || (cd "$root" && cmake --preset release -B "$build" >/dev/null)
    cmake --build "$build" --target nearcached_load nearcached_bare_loop >&2
  fi ;;
esac
exec /usr/bin/python3 "$root/loadtest/compare.py" --build "$build" "$@"
