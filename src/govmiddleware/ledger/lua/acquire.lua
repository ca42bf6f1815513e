#!lua
-- Check any number of holds, then take all of them: opens a reservation, or extends an open one.
--
-- KEYS  1 state  2 reservation  3 open  4 active API tokens  5 journal
--       6.. the counters of the new holds, then those that an extension holds already
-- ARGV  1 test clock, ms or ''     2 reservation id     3 '1' to extend     4 lease, ms
--       5 API token id, '' for one that the store does not know             6 the journal's largest length
--       7 the record to journal if the lease runs out
--       8.. six for each new hold: kind, amount, hard, and
--           s: bucket width ms, bucket count, ''      n: '', '', ''
--           c: start of the window, its end, the end of the next, ms (lifetime: '0', '', '')
-- Returns  {'granted', expired, states..}   'expired' lists a few reservations that want sweeping
--          {'exceeded', expired, states..}  nothing was taken; an extension's earlier holds are released
--          {'revoked'} {'full'} {'gone'}    nothing was taken; 'gone': cancelled before, or not open any more
--          {'stale', now}                   the windows sent are not those of the script's time: send again
--          a state is "used reserved frees_in_ms", before this call; frees_in_ms is -1 where time does not help
-- Units  amounts in the meter's own (nano-USD for cost)

local state, reservation, open, active, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, extend, lease, api_token = ARGV[2], ARGV[3] == '1', tonumber(ARGV[4]), ARGV[5]
local now = clock(state, ARGV[1])
local STRIDE, FIRST_ARG, FIRST_KEY = 6, 8, 6
local count = (#ARGV - FIRST_ARG + 1) / STRIDE

-- Where a hold of this kind falls now: its bucket, and for a sliding window what has left the window.
local function locate(key, kind, a, b, c)
  if kind == 'n' then
    return {bucket = '0', used = 0, reserved = number(redis.call('HGET', key, 'r0'))}
  end
  if kind == 'c' then
    local start, ends = tonumber(a), tonumber(b)
    if ends and (now < start or now >= tonumber(c)) then return nil end
    if ends and now >= ends then start, ends = ends, tonumber(c) end
    local bucket = text(start)
    local f = redis.call('HMGET', key, 'o', 'p', 'u' .. bucket, 'r' .. bucket)
    return {bucket = bucket, ends = ends, current = f[1], previous = f[2], used = number(f[3]), reserved = number(f[4])}
  end
  local width, buckets = tonumber(a), tonumber(b)
  local current = math.floor(now / width)
  local oldest = current - buckets
  local f = redis.call('HMGET', key, 'o', 'u', 'r')
  local place = {bucket = text(current), oldest = oldest, used = number(f[2]), reserved = number(f[3]), gone = {}}
  local since = tonumber(f[1] or oldest)
  if since < oldest - buckets then -- idle for longer than the window: nothing of it counts
    place.reset, place.used, place.reserved = true, 0, 0
  elseif since < oldest then
    for bucket = since, oldest - 1 do
      table.insert(place.gone, 'u' .. text(bucket))
      table.insert(place.gone, 'r' .. text(bucket))
    end
    local amounts = redis.call('HMGET', key, unpack(place.gone))
    for i = 1, #amounts, 2 do
      place.used, place.reserved = place.used - number(amounts[i]), place.reserved - number(amounts[i + 1])
    end
  else
    place.oldest = since
  end
  return place
end

-- After how long `excess` has left the counter at the latest; -1 where time alone does not bring it.
local function frees_in(key, kind, place, a, b, excess)
  if kind == 'c' and place.ends then return place.ends - now end
  if kind ~= 's' then return -1 end
  local width, buckets = tonumber(a), tonumber(b)
  local fields = {}
  for bucket = place.oldest, tonumber(place.bucket) do
    table.insert(fields, 'u' .. text(bucket))
    table.insert(fields, 'r' .. text(bucket))
  end
  local amounts = redis.call('HMGET', key, unpack(fields))
  for i = 1, #amounts, 2 do
    excess = excess - number(amounts[i]) - number(amounts[i + 1])
    if excess <= 0 then return (place.oldest + (i - 1) / 2 + buckets + 1) * width - now end
  end
  return -1
end

local held, fields = read_reservation(reservation)
if fields.dead or extend ~= (fields.rec ~= nil) then return {'gone'} end
if api_token ~= '' and redis.call('SISMEMBER', active, api_token) == 0 then return {'revoked'} end
if not extend and redis.call('XLEN', journal) >= tonumber(ARGV[6]) then return {'full'} end

local places, states, exceeded = {}, {}, false
for i = 1, count do
  local key, at = KEYS[FIRST_KEY + i - 1], FIRST_ARG + (i - 1) * STRIDE
  local kind, amount, hard = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local place = locate(key, kind, ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
  if not place then return {'stale', text(now)} end
  local excess, wait = place.used + place.reserved + amount - hard, 0
  if amount > 0 and excess > 0 then -- what costs nothing passes a limit that is used up
    exceeded = true
    wait = amount > hard and -1 or frees_in(key, kind, place, ARGV[at + 3], ARGV[at + 4], excess)
  end
  places[i] = place
  states[i] = text(place.used) .. ' ' .. text(place.reserved) .. ' ' .. text(wait)
end

local releases = {}
if exceeded and extend then
  for key, hold in pairs(held) do table.insert(releases, plan_settlement(key, hold, 0)) end
end
local expired = redis.call('ZRANGE', open, '-inf', text(now), 'BYSCORE', 'LIMIT', '0', '4')

-- From here on writes only, and none that can fail.

redis.call('HSET', state, 'now', text(now))
if exceeded then
  for _, release in ipairs(releases) do if release then release() end end
  if extend then
    redis.call('DEL', reservation)
    redis.call('ZREM', open, id)
  end
  return {'exceeded', table.concat(expired, ' '), unpack(states)}
end

local holds = {'rec', ARGV[7]}
for i = 1, count do
  local key, at, place = KEYS[FIRST_KEY + i - 1], FIRST_ARG + (i - 1) * STRIDE, places[i]
  local kind, amount = ARGV[at], tonumber(ARGV[at + 1])
  if kind == 'n' then
    redis.call('HSET', key, 'r0', text(place.reserved + amount))
  elseif kind == 'c' then
    if place.current and place.current ~= place.bucket then
      if place.previous then redis.call('HDEL', key, 'u' .. place.previous, 'r' .. place.previous) end
      redis.call('HSET', key, 'p', place.current)
    end
    redis.call('HSET', key, 'o', place.bucket, 'r' .. place.bucket, text(place.reserved + amount))
    if place.ends then redis.call('PEXPIRE', key, text(place.ends - now + DAY)) end
  else
    if place.reset then redis.call('DEL', key) end
    if #place.gone > 0 then redis.call('HDEL', key, unpack(place.gone)) end
    redis.call('HSET', key, 'o', text(place.oldest), 'u', text(place.used), 'r', text(place.reserved + amount))
    redis.call('HINCRBY', key, 'r' .. place.bucket, text(amount))
    redis.call('PEXPIRE', key, text(2 * tonumber(ARGV[at + 3]) * tonumber(ARGV[at + 4]) + 60000))
  end
  table.insert(holds, key)
  table.insert(holds, kind .. ' ' .. place.bucket .. ' ' .. text(amount))
end
redis.call('HSET', reservation, unpack(holds))
redis.call('ZADD', open, text(now + lease), id)
return {'granted', table.concat(expired, ' '), unpack(states)}
