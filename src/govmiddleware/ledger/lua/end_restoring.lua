#!lua
-- Give the turn back; where the workspace is whole again, its epoch goes on.
--
-- KEYS  1 the turn  2 state
-- ARGV  1 whose turn it is   2 the epoch, '' where it is not whole
-- Returns  1 done   0 the turn was over

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], 'epoch', ARGV[2]) end
redis.call('DEL', KEYS[1])
return 1
