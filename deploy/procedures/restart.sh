#!/bin/sh
# Restarts one node after the other, such as for a new configuration.
. "$(dirname "$0")/common.sh"
arguments "restart.sh" "Restarts one node after the other, such as for a new configuration. No request is lost." "" "$@"
all_must_be_ready none

for node in $nodes; do restart_one "$node"; done
