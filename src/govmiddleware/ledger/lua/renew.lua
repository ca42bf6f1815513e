#!lua flags=allow-oom
-- Extend the lease of an open reservation.
--
-- KEYS  1 state  2 open
-- ARGV  1 test clock, ms or ''   2 reservation id   3 lease, ms
-- Returns  1 renewed   0 not open

local now = clock(KEYS[1], ARGV[1])
if not redis.call('ZSCORE', KEYS[2], ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'now', text(now))
redis.call('ZADD', KEYS[2], text(now + tonumber(ARGV[3])), ARGV[2])
return 1
