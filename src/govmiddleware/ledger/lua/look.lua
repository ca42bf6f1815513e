#!lua flags=no-writes
-- What counters have used in their current windows, and what a book knows of a member.
--
-- KEYS  1 state  2 the book  3 its terms  4.. counters
-- ARGV  1 test clock, ms or ''   2 the member, '' for none
--       3.. four for each counter: kind, a, b, c as locate() has them
-- Returns  {'seen', for how long the member was not used, ms, '' where there is none, its terms,
--           "used reserved"..}   for wall clocks: seconds since the first use, '-' before it
--          {'stale', now}   the windows sent are not those of the script's time: send again

local now = clock(KEYS[1], ARGV[1])
local last = redis.call('ZSCORE', KEYS[2], ARGV[2])
local answer = {'seen', last and text(now - tonumber(last)) or '', redis.call('HGET', KEYS[3], ARGV[2]) or ''}
for i = 4, #KEYS do
  local at = 3 + (i - 4) * 4
  local kind = ARGV[at]
  local place = locate(KEYS[i], now, kind, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
  if not place then return {'stale', text(now)} end
  local used = kind == 'w' and not place.first and '-' or text(place.used)
  table.insert(answer, used .. ' ' .. text(place.reserved))
end
return answer
