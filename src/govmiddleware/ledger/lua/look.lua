#!lua flags=no-writes
-- What counters have used in their current windows, and what a book knows of members.
--
-- KEYS  1 state  2 the book  3 its terms  4.. counters
-- ARGV  1 test clock, ms or ''   2 how many members   3.. the members
--       then four for each counter: kind, a, b, c as locate() has them
-- Returns  {'seen', unused, terms.., "used reserved"..}   for each member: for how long it was not used, ms, and its
--              terms, both '' where there is none; wall clocks: seconds since the first use, '-' before it
--          {'stale', now}   the windows sent are not those of the script's time: send again

local now, count = clock(KEYS[1], ARGV[1]), tonumber(ARGV[2])
local answer = {'seen'}
for i = 3, 2 + count do
  local last = redis.call('ZSCORE', KEYS[2], ARGV[i])
  table.insert(answer, last and text(now - tonumber(last)) or '')
  table.insert(answer, redis.call('HGET', KEYS[3], ARGV[i]) or '')
end
for i = 4, #KEYS do
  local at = 3 + count + (i - 4) * 4
  local kind = ARGV[at]
  local place = locate(KEYS[i], now, kind, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
  if not place then return {'stale', text(now)} end
  local used = kind == 'w' and not place.first and '-' or text(place.used)
  table.insert(answer, used .. ' ' .. text(place.reserved))
end
return answer
