#!/usr/bin/env bash
# Shows that the tests can fail. Each patch in testdata/broken breaks one
# promise of the product and names the test that must notice:
#
#   # test: ./internal/db -run 'TestOneBadWriteFailsAlone'
#
# For each, in a copy of the tree: the test passes, the patch applies, the tree
# still builds, and now the test fails. Arguments choose patches by name.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
limit=${LIMIT:-180s}

work=$(mktemp -d)
log=$work/log
copy=$work/tree
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$copy"
git ls-files -z --cached --others --exclude-standard |
  while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done |
  tar -cf - --null -T - | tar -xf - -C "$copy"

# git apply would look for a repository around the copy.
export GIT_CEILING_DIRECTORIES=$work
unset GIT_DIR GIT_WORK_TREE

# build compiles everything; end-to-end tests run the program itself.
build() {
  (cd "$copy" && "$go" build ./... &&
    { [[ $1 != ./e2e* ]] || "$go" build -trimpath -o bin/sealpost ./cmd/sealpost; }) >"$log" 2>&1
}

# run runs a test that is named as the arguments of `go test`.
run() {
  (cd "$copy" && "$go" test -timeout "$limit" "$@") >"$log" 2>&1
}

# judge prints what is wrong with a patch, or "ok".
judge() {
  local patch=$1 line args
  line=$(sed -n 's/^# test: //p' "$patch")
  case $line in
  *$'\n'* | '') echo "it names no test, or more than one line of them" && return ;;
  esac
  eval "args=($line)"
  build "${args[0]}" || { echo "nothing builds even without it" && return; }
  run "${args[@]}" || { echo "its test fails even without it" && return; }
  ! grep -q 'no tests to run' "$log" || { echo "there is no such test" && return; }
  (cd "$copy" && git apply "$patch") >"$log" 2>&1 || { echo "it does not apply" && return; }
  # -count=1: a program that was built anew does not count as a change to the
  # cache of test results.
  if ! build "${args[0]}" || ! run -run '^$' "${args[0]}"; then
    echo "it does not build"
  elif run -count=1 "${args[@]}"; then
    echo "its test passes all the same"
  else
    echo ok
  fi
  (cd "$copy" && git apply -R "$patch")
}

failed=0
total=0
printf '%-44s %s\n' 'broken build' 'verdict'
for patch in "$PWD"/testdata/broken/*.patch; do
  name=$(basename "$patch" .patch)
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
  verdict=$(judge "$patch")
  total=$((total + 1))
  if [ "$verdict" = ok ]; then
    printf '%-44s %s\n' "$name" 'noticed'
  else
    failed=$((failed + 1))
    printf '%-44s %s\n' "$name" "NOT NOTICED: $verdict"
    sed 's/^/    /' "$log" | tail -20
  fi
done
echo "$((total - failed)) passed, $failed failed"
[ $total -gt 0 ] && [ $failed -eq 0 ]
