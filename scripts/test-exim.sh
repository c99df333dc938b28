#!/usr/bin/env bash
# Unpacks Debian's Exim, which cannot be installed beside its Postfix, into a
# folder of its own for the tests. test-deps.sh calls it; nothing is done when
# it is there.
set -eu
PATH=$PATH:/usr/sbin:/sbin
dir=${XDG_CACHE_HOME:-$HOME/.cache}/sealpost-tests/exim
user=Debian-exim # the name is compiled in; it must exist before any configuration is read

if [ ! -x "$dir/usr/sbin/exim4" ]; then
  echo "Unpacking for the tests: exim4-daemon-light"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM
  (cd "$work" && apt-get -q download exim4-daemon-light) >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
  }
  mkdir -p "$dir"
  dpkg -x "$work"/exim4-daemon-light_*.deb "$dir"
fi

if ! id "$user" >/dev/null 2>&1; then
  if [ "$(id -u)" != 0 ]; then
    echo "The tests run Exim under the user that is compiled into it. Make it with:" >&2
    echo "  sudo useradd --system --user-group --no-create-home --shell /usr/sbin/nologin $user" >&2
    exit 1
  fi
  useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
fi
