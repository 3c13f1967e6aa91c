#!/bin/sh
# The build: checks that the page is there and stamps the time.
set -eu
echo "building {{name}}"
test -s /app/page.html
date -u '+%Y-%m-%d %H:%M:%S UTC' > /app/built-at
chmod 755 /app/cgi-bin/index.cgi
echo "built at $(cat /app/built-at)"
