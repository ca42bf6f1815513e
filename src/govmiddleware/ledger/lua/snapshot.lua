#!lua flags=no-writes
-- One consistent look at a workspace for the audit: counters, open reservations, end of the journal.
-- The reservations are found through the open set, not declared: a failure here harms nothing.
--
-- KEYS  1 open  2 journal  3.. counters
-- ARGV  1 prefix of reservation keys
-- Returns  {last journal id, {open reservation, its fields..}.., false, {counter fields..}..}

local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', '1')
local answer = {#last > 0 and last[1][1] or '0-0'}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '0', '-1')) do
  local fields = redis.call('HGETALL', ARGV[1] .. id)
  table.insert(fields, 1, id)
  table.insert(answer, fields)
end
table.insert(answer, '')
for i = 3, #KEYS do table.insert(answer, redis.call('HGETALL', KEYS[i])) end
return answer
