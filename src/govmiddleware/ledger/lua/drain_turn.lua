#!lua flags=allow-oom
-- Take the turn to drain, or keep it, and tell how that goes.
--
-- KEYS  1 the turn
-- ARGV  1 who asks   2 how long the turn is kept without asking again, ms   3 the report, '' for none yet
-- Returns  1, or 0 where it is another's

local turn, who = KEYS[1], redis.call('HGET', KEYS[1], 'by')
if who and who ~= ARGV[1] then return 0 end
redis.call('HSET', turn, 'by', ARGV[1])
if ARGV[3] ~= '' then redis.call('HSET', turn, 'report', ARGV[3]) end
redis.call('PEXPIRE', turn, ARGV[2])
return 1
