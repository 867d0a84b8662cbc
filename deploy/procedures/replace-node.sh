#!/bin/sh
# Node NODE has lost its volume, or its machine: it comes back empty, under its name. Only when this has
# ended may another volume be given up.
. "$(dirname "$0")/common.sh"
node=
arguments "replace-node.sh [--yes] NODE" "NODE has lost its volume, or its machine: it comes back empty, under its name. If it is ready, or another
node is not, nothing is done but with --yes." node "$@"
must_be_a_name "$node"
other=$(another "$node")
is_of_site "$node" || is_member "$other" "$node" ||
    misuse "$node is no node of this site, and no member; the nodes are: $nodes ($site_file)"
is_reachable "$node" || refuse "the machine of $node does not answer; nothing was done"
say "this will be done:"
echo "$node: killed, $(data_dir "$node") deleted, started as a new member under the same name"
if [ "$is_sure" = no ]; then
    all_must_be_ready "$node"
    ! is_ready "$node" || refuse "$node is ready, so its volume is not lost: nothing was done. To empty it all the same, say --yes"
fi

stop "$node"
on "$node" rm -rf "$(data_dir "$node")"
start "$node"
wait_until_ready "$node"
wait_for "the new $node votes alone" votes "$other" "$node"
majordomo_at "$other" member list
