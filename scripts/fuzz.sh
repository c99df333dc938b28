#!/usr/bin/env bash
# Runs every fuzz target for a while: fuzz.sh [TIME]. What a target finds it
# leaves in its package's testdata/fuzz, to be committed with the correction.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}
go=${GO:-go}

# `go test -list` names the targets of a package, and the package after them.
targets=$("$go" test -list '^Fuzz' ./... | awk '
  /^Fuzz/ { name[n++] = $1 }
  /^ok/   { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }')
failed=0
while read -r package target; do
  [ -n "$target" ] || continue
  echo "== $target in $package"
  "$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" </dev/null || failed=1
done <<<"$targets"
exit $failed
