#!lua flags=no-writes
-- One consistent look at a workspace for the audit: counters, open reservations, end of the journal.
-- The reservations are found through the open set, not declared: a failure here harms nothing.
--
-- KEYS  1 state  2 open  3 journal  4.. counters
-- ARGV  1 test clock, ms or ''   2 prefix of reservation keys
-- Returns  {last journal id, now, epoch or '', {id of an open reservation, the reservation, ..}, {counter fields..}..}

local now, epoch = clock(KEYS[1], ARGV[1])
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', '1')
local reservations = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], '0', '-1')) do
  table.insert(reservations, id)
  table.insert(reservations, redis.call('GET', ARGV[2] .. id) or '')
end
local answer = {#last > 0 and last[1][1] or '0-0', text(now), epoch or '', reservations}
for i = 4, #KEYS do table.insert(answer, redis.call('HGETALL', KEYS[i])) end
return answer
