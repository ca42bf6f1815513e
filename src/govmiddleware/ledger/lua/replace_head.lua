#!lua
-- Keep another head of the audit log, in place of the one that the caller has seen.
--
-- KEYS  1 the head
-- ARGV  1 what the caller has seen, or ''   2 the new one
-- Returns  1 replaced   0 another one is kept by now

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
