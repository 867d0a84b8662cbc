#!/bin/sh
# Brings one node after the other to version VERSION. Until finalize.sh, roll-back.sh is the way back.
. "$(dirname "$0")/common.sh"
version=
arguments "upgrade.sh VERSION" "Brings one node after the other to VERSION, which must be installed, and holds the cluster's version. Until
finalize.sh, roll-back.sh is the way back." version "$@"
must_have_version "$version"
all_must_be_ready none

majordomo_at "${nodes%% *}" upgrade hold
for node in $nodes; do
    drain "$node"
    install "$node" "$version"
    start "$node"
    wait_until_ready "$node"
    say "$node runs $version"
done
majordomo_at "${nodes%% *}" upgrade status
