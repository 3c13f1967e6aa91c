#!/bin/sh
# The page, with what only the running container knows. It writes nothing: a read-only root is fine.
# What the environment says goes into HTML, so only what can be a sha and a URL does. Busybox's sh does it without
# another process: this runs for each visitor.
case "${COMMIT_SHA:-}" in *[!0-9a-f]* | '') sha='not told' ;; *) sha=${COMMIT_SHA:0:12} ;; esac
case "${PREVIEW_URL:-}" in *[!A-Za-z0-9:/._-]* | '') url='#' ;; *) url=$PREVIEW_URL ;; esac
read -r built < /app/built-at
printf 'Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n\r\n'
exec sed -e "s|@SHA@|$sha|g" -e "s|@URL@|$url|g" -e "s|@BUILT@|$built|g" /app/page.html
