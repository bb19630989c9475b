#!/usr/bin/env bash
# Removes lines of the protocol, one at a time, and demands that a loom model fails for each.
#
#   tests/loom/mutants.sh [NAME...]      all of mutants.txt, or those named
#   tests/loom/mutants.sh --rest         those that no run on this source has caught yet
#   tests/loom/mutants.sh --list         only checks that each expression changes its file
#
# Works on a copy in target/mutants. A mutant is caught when one of its models panics, or dies of
# the memory that it has broken. A mutant that does not compile, or whose expression changes
# nothing, is an error of mutants.txt. Those whose names begin with "halves" are compiled with
# 32-bit halves instead of 64-bit atomics. All take an hour or two; a run that was interrupted
# goes on with --rest.
set -euo pipefail
cd "$(dirname "$0")/../.."
list=$PWD/tests/loom/mutants.txt
copy=$PWD/target/mutants
export CARGO_TERM_COLOR=never
loom=(--quiet -p kvma --features loom --release --lib --test loom)
# Most of the time goes into compiling.
export CARGO_PROFILE_RELEASE_INCREMENTAL=true CARGO_PROFILE_RELEASE_DEBUG=0
loom+=(--config 'profile.release.opt-level=1' --config 'profile.release.package."*".opt-level=3')

# Files that are equal keep their times, so that cargo rebuilds only what a mutant has changed.
sync() {
    while read -r path; do
        cmp -s "$1/$path" "$2/$path" || install -D -m 644 "$1/$path" "$2/$path"
    done <"$copy/files"
}
only_list='' only_rest=''
case ${1-} in
--list) only_list=yes && shift ;;
--rest) only_rest=yes && shift ;;
esac
if [ -z "$only_list" ]; then
    mkdir -p "$copy"
    git ls-files -co --exclude-standard -- . ':!tests/traces' >"$copy/files.new"
    # A file that has gone must not stay in the copies.
    cmp -s "$copy/files" "$copy/files.new" || rm -rf "$copy/right" "$copy/crate"
    mv "$copy/files.new" "$copy/files"
    sync . "$copy/right"
    # The names of those that were caught, as long as the source and the models are these.
    source=$(cat src/*.rs src/*/*.rs src/*/*/*.rs tests/loom/*.rs | cksum)
    [ "$(head -n 1 "$copy/caught" 2>/dev/null)" = "$source" ] || echo "$source" >"$copy/caught"
fi

missed=0 caught=0
while IFS='|' read -r name files models expression; do
    name=${name// /} files=${files//[ ,]/ } models=${models// /}
    case $name in '' | '#'*) continue ;; esac
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    if [ -n "$only_rest" ] && grep -qx "$name" "$copy/caught"; then continue; fi
    export RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$copy/target
    if [[ $name = halves* ]]; then
        RUSTFLAGS+=" --cfg kvma_halves" CARGO_TARGET_DIR+=-halves
    fi
    commands=${expression//;;/$'\n'}
    while read -r command; do
        for file in $files; do
            sed -E "$command" "$file" | cmp -s - "$file" || continue 2
        done
        echo "error   $name: this changes nothing in $files: $command"
        exit 2
    done <<<"$commands"
    if [ -n "$only_list" ]; then continue; fi
    sync "$copy/right" "$copy/crate"
    for file in $files; do
        sed -E -i "$commands" "$copy/crate/$file"
        touch "$copy/crate/$file"
    done
    cd "$copy/crate"
    if ! cargo test "${loom[@]}" --no-run 2>"$copy/build.log"; then
        cat "$copy/build.log"
        echo "error   $name: does not compile"
        missed=$((missed + 1))
        cd - >/dev/null
        continue
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
        echo "$name" >>"$copy/caught"
        echo "caught  $name by $killer"
    else
        missed=$((missed + 1))
        echo "MISSED  $name"
    fi
done <"$list"
if [ -n "$only_list" ]; then exit; fi
echo "$caught caught, $missed missed"
[ "$missed" = 0 ]
