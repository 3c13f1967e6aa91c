#!/bin/sh
# The page, with what only the running container knows. It writes nothing: a read-only root is fine.
sha=$(printf '%s' "${COMMIT_SHA:-}" | tr -cd '0-9a-f' | cut -c 1-12)
url=$(printf '%s' "${PREVIEW_URL:-}" | tr -cd 'A-Za-z0-9:/._-')
built=$(cat /app/built-at)
printf 'Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n\r\n'
exec sed -e "s|@SHA@|${sha:-not told}|g" -e "s|@URL@|${url:-#}|g" -e "s|@BUILT@|$built|g" /app/page.html
