#!lua flags=no-writes
-- Where to begin reading what a journal got lately: its ids are made by the clock of the server that keeps it.
--
-- KEYS  1 journal
-- ARGV  1 how far back, ms
-- Returns  the start of a range of ids: ms

local time = redis.call('TIME')
return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1]))
