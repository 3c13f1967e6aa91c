#!/bin/sh
# A build that fails the way builds do: it starts well, then a step finds a mistake and says where.
set -eu
exec 2>&1 # one stream, so that the log has its lines in their order
echo "building {{name}}"
echo "checking 14 modules"
echo "app/checkout.ts:42:17 - error TS2304: Cannot find name 'totl'. Did you mean 'total'?" >&2
echo "found 1 error" >&2
exit 2
