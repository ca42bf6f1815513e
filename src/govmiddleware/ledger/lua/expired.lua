#!lua flags=no-writes
-- The reservations whose lease has run out, the oldest first.
--
-- KEYS  1 state  2 open
-- ARGV  1 test clock, ms or ''   2 how many at most
-- Returns  their ids

return redis.call('ZRANGE', KEYS[2], '-inf', text(clock(KEYS[1], ARGV[1])), 'BYSCORE', 'LIMIT', '0', ARGV[2])
