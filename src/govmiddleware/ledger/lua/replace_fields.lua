#!lua
-- Replace fields of a hash, if each still is what the caller has seen; else change nothing.
--
-- KEYS  1 the hash
-- ARGV  1 how long it lives from now on, ms   2.. of each field its name, what the caller has seen or '', the new value
-- Returns  1 replaced   0 one of them is another by now

for i = 2, #ARGV, 3 do
  if (redis.call('HGET', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 2, #ARGV, 3 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
