#!/usr/bin/env bash
# Shows that the tests can fail. Each patch in testdata/broken breaks one
# promise of the product and names the test that must notice:
#
#   # test: ./internal/db -run 'TestOneBadWriteFailsAlone'
#
# For each, in a copy of the tree: the test passes, the patch applies, the
# package still compiles with its tests, and now a test fails and says so.
# Arguments choose patches by name.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
limit=${LIMIT:-180s}

work=$(mktemp -d)
log=$work/log
copy=$work/tree
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$copy" "$work/good"
git ls-files -z --cached --others --exclude-standard |
  while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done |
  tar -cf - --null -T - | tar -xf - -C "$copy"

# git apply would look for a repository around the copy.
export GIT_CEILING_DIRECTORIES=$work
unset GIT_DIR GIT_WORK_TREE

# compile makes a program of a package's tests; end-to-end tests run the
# product itself.
compile() {
  (cd "$copy" && "$go" test -c -o "$2" "$1" &&
    { [[ $1 != ./e2e* ]] || "$go" build -trimpath -o bin/sealpost ./cmd/sealpost; }) >"$log" 2>&1
}

# run runs such a program as `go test` would, with the arguments it was named with.
run() {
  local program=$1 package=$2
  shift 2
  (cd "$copy/$package" && "$program" -test.timeout "$limit" "${@/#-/-test.}") >"$log" 2>&1
}

# passes makes sure, once for each line of arguments, that the test passes
# without a patch.
declare -A passed
passes() {
  local program=$work/good/${1//\//_}
  [ -z "${passed["$*"]:-}" ] || return 0
  if [ ! -e "$program" ] || [[ $1 == ./e2e* ]]; then
    compile "$1" "$program" || { verdict="it does not compile even without the patch" && return 1; }
  fi
  run "$program" "$@" || { verdict="its test fails even without the patch" && return 1; }
  ! grep -q 'no tests to run' "$log" || { verdict="there is no such test" && return 1; }
  passed["$*"]=yes
}

# judge puts into verdict what is wrong with a patch, or "ok".
judge() {
  local patch=$1 line args
  line=$(sed -n 's/^# test: //p' "$patch")
  case $line in
  *$'\n'* | '') verdict="it names no test, or more than one line of them" && return ;;
  esac
  eval "args=($line)"
  passes "${args[@]}" || return 0
  (cd "$copy" && git apply "$patch") >"$log" 2>&1 || { verdict="it does not apply" && return; }
  if ! compile "${args[0]}" "$work/broken"; then
    verdict="it does not compile"
  elif run "$work/broken" "${args[@]}"; then
    verdict="its test passes all the same"
  elif ! grep -q -- '--- FAIL: ' "$log"; then
    verdict="its test is broken off and does not fail"
  else
    verdict=ok
  fi
  (cd "$copy" && git apply -R "$patch")
}

failed=0
total=0
printf '%-36s %s\n' 'broken build' 'verdict'
for patch in "$PWD"/testdata/broken/*.patch; do
  name=$(basename "$patch" .patch)
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
  began=$SECONDS
  judge "$patch"
  total=$((total + 1))
  if [ "$verdict" = ok ]; then
    printf '%-36s noticed by %s (%d s)\n' "$name" "$(sed -n 's/^--- FAIL: \([^ ]*\).*/\1/p' "$log" | head -1)" $((SECONDS - began))
  else
    failed=$((failed + 1))
    printf '%-36s NOT NOTICED: %s\n' "$name" "$verdict"
    sed 's/^/    /' "$log" | tail -20
  fi
done
echo "$((total - failed)) passed, $failed failed"
[ $total -gt 0 ] && [ $failed -eq 0 ]
