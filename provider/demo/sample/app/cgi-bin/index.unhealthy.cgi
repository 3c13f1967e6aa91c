#!/bin/sh
# An app that starts, listens, and never gets well.
echo "GET / 503: cannot connect to the database at db:5432 (connection refused)" >&2
printf 'Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\nno database\n'
