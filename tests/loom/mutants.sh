#!/usr/bin/env bash
# Removes lines of the protocol, one at a time, and demands that a loom model fails for each.
#
#   tests/loom/mutants.sh [NAME...]      all of mutants.txt, or those named
#
# Works on a copy in target/mutants. A mutant is caught when one of its models panics, or dies of the
# memory that it has broken. A mutant that does not compile, or whose expression changes nothing, is
# an error of mutants.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."
list=$PWD/tests/loom/mutants.txt
copy=$PWD/target/mutants
export RUSTFLAGS="--cfg loom" CARGO_TERM_COLOR=never CARGO_TARGET_DIR=$copy/target
loom=(--quiet -p kvma --features loom --release --test loom)

# Files that are equal keep their times, so that cargo rebuilds only what a mutant has changed.
sync() {
    while read -r path; do
        cmp -s "$1/$path" "$2/$path" || install -D -m 644 "$1/$path" "$2/$path"
    done <"$copy/files"
}
mkdir -p "$copy"
git ls-files -co --exclude-standard -- . ':!tests/traces' >"$copy/files"
sync . "$copy/right"

missed=0 caught=0
while IFS='|' read -r name files models expression; do
    name=${name// /} files=${files//[ ,]/ } models=${models// /}
    case $name in '' | '#'*) continue ;; esac
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    sync "$copy/right" "$copy/crate"
    for file in $files; do
        sed -E -i "${expression# }" "$copy/crate/$file"
        if cmp -s "$copy/right/$file" "$copy/crate/$file"; then
            echo "error   $name: the expression changes nothing in $file"
            exit 2
        fi
        touch "$copy/crate/$file"
    done
    cd "$copy/crate"
    if ! cargo test "${loom[@]}" --no-run 2>"$copy/build.log"; then
        cat "$copy/build.log"
        echo "error   $name: does not compile"
        exit 2
    fi
    killer=
    for model in ${models//,/ }; do
        if timeout 300 cargo test "${loom[@]}" -- --exact "$model" >"$copy/run.log" 2>&1; then
            grep -q '1 passed' "$copy/run.log" || { echo "error   $name: no model $model"; exit 2; }
        elif grep -q "FAILED\|panicked\|(signal: " "$copy/run.log"; then
            killer=$model
            break
        else
            echo "        $name: $model did not end"
        fi
    done
    cd - >/dev/null
    if [ -n "$killer" ]; then
        caught=$((caught + 1))
        echo "caught  $name by $killer"
    else
        missed=$((missed + 1))
        echo "MISSED  $name"
    fi
done <"$list"
echo "$caught caught, $missed missed"
[ "$missed" = 0 ]
