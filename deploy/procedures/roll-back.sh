#!/bin/sh
# Brings one node after the other back to version VERSION. After finalize.sh the old program is refused.
. "$(dirname "$0")/common.sh"
version=
arguments "roll-back.sh VERSION" "Brings one node after the other back to VERSION. After finalize.sh the old program is refused." version "$@"
must_have_version "$version"

# A node that the new version keeps from being ready comes first: it must not be missing when others leave.
ready=$(those is_ready)
for node in $nodes; do is_ready "$node" || ready="$node $ready"; done
for node in $ready; do
    if is_ready "$node"; then drain "$node"; else stop "$node"; fi
    install "$node" "$version"
    start "$node"
    wait_until_ready "$node"
    say "$node runs $version again"
done
majordomo_at "${nodes%% *}" upgrade resume
majordomo_at "${nodes%% *}" upgrade status
