#!/bin/sh
# Brings one node after the other back to version $1. After finalize.sh the old program is refused.
. "$(dirname "$0")/common.sh"
version=$1

for node in $nodes; do
    drain "$node"
    install "$node" "$version"
    start "$node"
    wait_until_ready "$node"
    say "$node runs $version again"
done
majordomo_at "${nodes%% *}" upgrade resume
majordomo_at "${nodes%% *}" upgrade status
