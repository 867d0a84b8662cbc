#!/bin/sh
# Restarts one node after the other, such as for a new configuration.
. "$(dirname "$0")/common.sh"

for node in $nodes; do restart_one "$node"; done
