#!lua flags=allow-oom
-- Let go of what a workspace's journal has in SQL too, and say how much of the rest is: acquire counts what is not.
--
-- KEYS  1 journal  2 state
-- ARGV  1 the record before which all others go, '' for none   2 how many records of the journal are in SQL
-- Returns  how many went
--
-- A record that is not there was let go before, or this is another run of the store, one that has never had it and may
-- give lower ids to records that are not in SQL yet: then none may go.

local journal, state, before, gone = KEYS[1], KEYS[2], ARGV[1], 0
if before ~= '' and #redis.call('XRANGE', journal, before, before) > 0 then
  gone = redis.call('XTRIM', journal, 'MINID', '=', before)
end
redis.call('HSET', state, 'drained', text(math.max(0, tonumber(ARGV[2]) - gone)))
return gone
