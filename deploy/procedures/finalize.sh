#!/bin/sh
# Ends an upgrade: what is new is used from now on, and older programs are refused.
. "$(dirname "$0")/common.sh"
arguments "finalize.sh" "Ends an upgrade: what is new is used from now on, older programs are refused, and roll-back.sh does
not work any more." "" "$@"

majordomo_at "${nodes%% *}" upgrade finalize
majordomo_at "${nodes%% *}" upgrade status
