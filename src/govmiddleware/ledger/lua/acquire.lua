#!lua
-- Check any number of holds, then take all of them: opens a reservation, extends an open one by further counters, or
-- grows it on counters that it holds. Where the whole output does not fit, the largest that does is granted.
--
-- KEYS  1 state  2 reservation  3 open  4 active API tokens  5 journal
--       6.. the counters of the new holds, those of their overrides, then those that the reservation holds already
-- ARGV  1 test clock, ms or ''     2 reservation id     3 'open', 'extend' or 'grow'     4 lease, ms
--       5 API token id, '' for one that the store does not know       6 the most records that are not in SQL yet
--       7 the record to journal if the lease runs out
--       8, 9 output tokens: the most and the least that are wanted     10 '1' to give up its shadow holds
--       11 an array of the new holds, as MessagePack: one string is read faster than many. Of each: kind; 'e'
--           enforced, 'd' shadow or 'o' only counted; the amount: fixed, and millionths for each output token; hard;
--           (of the limits without overrides) a, b, c as locate() has them; from which projected amount on to look
--           for crossings, and "limit soft hard .." to look at; perhaps the limits with overrides, as raised() has them
-- Returns  {'granted', output, shadow output, expired, states..}
--              shadow output: what the limits in dry_run would have granted, -1 where they would have refused
--              expired: a few reservations that want sweeping
--          {'exceeded', 0, 0, expired, states..}  nothing was taken; an extension's earlier holds are released
--          {'revoked'} {'full'} {'gone'}    nothing was taken; 'gone': cancelled before, or not open any more
--          {'lost'}                         nothing was taken: the workspace has no epoch
--          {'stale', now}                   the windows sent are not those of the script's time: send again
--          a state is "used reserved asked frees_in_ms crossings.. overrides..", before this call; frees_in_ms is -1
--          where time does not help; a crossing is "s:LIMIT:WINDOW" or "h:LIMIT:WINDOW", told once for each window;
--          an override is "o:LEFT", what it adds now
-- Units  amounts in the meter's own (nano-USD for cost)

local state, reservation, open, active, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, step, lease, api_token = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local most, least = tonumber(ARGV[8]), tonumber(ARGV[9])
local now, epoch = clock(state, ARGV[1])
local FIRST_KEY = 6
local LARGEST = 2 ^ 53 - 1 -- of a counter: what is held of one that refuses nothing must not take it past what is exact

-- Exact: the products stay below 2^53.
local function amount_at(ask, output)
  if ask.per_token == 0 then return ask.fixed end
  local whole = math.floor(ask.per_token / 1e6)
  return ask.fixed + output * whole + math.ceil(output * (ask.per_token - whole * 1e6) / 1e6)
end

-- The largest output between `low` and `most` that fits into `room`; nil where not even `low` does.
local function most_output(ask, room, low)
  if ask.all <= room then return most end
  if low == most or amount_at(ask, low) > room then return nil end
  local output = math.floor((room - ask.fixed) * 1e6 / ask.per_token)
  while amount_at(ask, output) > room do output = output - 1 end
  while amount_at(ask, output + 1) <= room do output = output + 1 end
  return output
end

-- After how long `excess` has left the counter at the latest; -1 where time alone does not bring it.
local function frees_in(ask, excess)
  local place = ask.place
  if place.ends then return place.ends - now end
  if ask.kind ~= 's' then return -1 end
  local width, buckets, fields = ask.a, ask.b, {}
  for bucket = place.oldest, tonumber(place.bucket) do
    table.insert(fields, 'u' .. text(bucket))
    table.insert(fields, 'r' .. text(bucket))
  end
  local amounts = redis.call('HMGET', ask.key, unpack(fields))
  for i = 1, #amounts, 2 do
    excess = excess - number(amounts[i]) - number(amounts[i + 1])
    if excess <= 0 then return (place.oldest + (i - 1) / 2 + buckets + 1) * width - now end
  end
  return -1
end

-- Crossings that were not told of in this window, and the flags to set for them.
local function crossings(ask, projected, admitted, flags)
  local told, window = '', text(ask.place.window)
  for name, soft, hard in string.gmatch(ask.watch, '(%S+) (%S+) (%S+)') do
    local past = projected > tonumber(hard) and 'h' or (admitted and projected >= number(soft)) and 's'
    if ask.kind == 'w' and projected >= tonumber(hard) then past = 'h' end
    if past and redis.call('HGET', ask.key, past .. name) ~= window then
      table.insert(flags, {ask, past .. name, window})
      told = told .. ' ' .. past .. ':' .. name .. ':' .. window
    end
  end
  return told
end

if not epoch then return {'lost'} end
local held, fields = read_reservation(reservation)
if fields.dead or fields.swept or (step ~= 'open') ~= (fields.rec ~= nil) then return {'gone'} end
if api_token ~= '' and redis.call('SISMEMBER', active, api_token) == 0 then return {'revoked'} end
if step == 'open' then
  local most_records, records = tonumber(ARGV[6]), redis.call('XLEN', journal)
  if records >= most_records then records = records - number(redis.call('HGET', state, 'drained')) end
  if records >= most_records then return {'full'} end
end

local asks, output, shadow_output = {}, most, most
for i, wanted in ipairs(cmsgpack.unpack(ARGV[11])) do
  local kind, check, fixed, per_token, hard, a, b, c, watch_from, watch, limits = unpack(wanted, 1, 11)
  local key = KEYS[FIRST_KEY + i - 1]
  local ask = {key = key, kind = kind, check = check, fixed = fixed, per_token = per_token, hard = hard, a = a, b = b,
    watch_from = watch_from, watch = watch, low = most, all = 0, place = locate(key, now, kind, a, b, c), amount = 0,
    raised = {}, left = ''}
  if not ask.place then return {'stale', text(now)} end
  ask.all = amount_at(ask, most)
  if ask.check ~= 'o' then
    -- What costs nothing passes a limit that is used up, and one that debt has gone past.
    local room, fits = hard and math.max(0, hard - ask.place.used - ask.place.reserved) or math.huge
    for _, limit in ipairs(limits or {}) do
      local found = raised(ask, limit, now)
      table.insert(ask.raised, found)
      if found.room < room then room, ask.hard = found.room, found.most end
    end
    -- A sliding window frees by itself soon: what would fit an empty one waits for that.
    if step == 'grow' or ask.kind == 'c' or ask.all > ask.hard then ask.low = least end
    if ask.kind == 'w' then fits = room > 0 and most else fits = most_output(ask, room, ask.low) end
    ask.fails, fits = not fits, fits or -1
    shadow_output = math.min(shadow_output, fits) -- what an enforced limit refuses, a dry run counts no more either
    if ask.check == 'e' then output = math.min(output, fits) end
  end
  asks[i] = ask
end
local exceeded, shadow_exceeded = output < 0, shadow_output < 0

local states, flags = {}, {}
for i, ask in ipairs(asks) do
  local place, wait, granted, told = ask.place, 0, ask.check == 'd' and shadow_output or output, ''
  local grants = (ask.fails or granted < 0) and ask.low or granted
  local asked = grants == most and ask.all or amount_at(ask, grants)
  local projected = place.used + place.reserved + asked
  if ask.fails then wait = asked > ask.hard and -1 or frees_in(ask, projected - ask.hard) end
  if projected >= ask.watch_from and (asked > 0 or ask.kind == 'w') then
    told = (ask.fails or granted >= 0) and crossings(ask, projected, granted >= 0, flags) or ''
  end
  ask.amount = math.min(asked, math.max(0, LARGEST - place.used - place.reserved))
  states[i] = string.format('%d %d %d %d%s%s', place.used, place.reserved, asked, wait, told, ask.left)
end

local releases = {}
for key, hold in pairs(held) do
  if step == 'extend' and (exceeded or (hold.shadow and (shadow_exceeded or ARGV[10] == '1'))) then
    table.insert(releases, {key, (plan_settlement(key, hold, 0))})
  end
end
local expired = redis.call('ZRANGE', open, '-inf', text(now), 'BYSCORE', 'LIMIT', '0', '4')

-- From here on writes only, and none that can fail.

redis.call('HSET', state, 'now', text(now))
for _, release in ipairs(releases) do
  release[2]()
  redis.call('HDEL', reservation, release[1])
end
for _, flag in ipairs(flags) do
  redis.call('HSET', flag[1].key, flag[2], flag[3])
  if exceeded or flag[1].check == 'd' and shadow_exceeded then keep(flag[1].key, now, flag[1].kind, flag[1].place) end
end
if exceeded then
  if step == 'extend' then
    redis.call('DEL', reservation)
    redis.call('ZREM', open, id)
  end
  return {'exceeded', '0', '0', table.concat(expired, ' '), unpack(states)}
end

local holds = {'rec', ARGV[7]}
if step ~= 'grow' then
  table.insert(holds, 'at') -- when it was admitted
  table.insert(holds, text(now))
end
for _, ask in ipairs(asks) do
  if ask.check ~= 'd' or not shadow_exceeded then
    add(ask.key, now, ask.kind, ask.place, 'r', ask.amount)
    table.insert(holds, ask.key)
    table.insert(holds, grown(held[ask.key], ask))
    for _, limit in ipairs(ask.raised) do take_overrides(ask, limit, held, holds, now) end
  end
end
redis.call('HSET', reservation, unpack(holds))
redis.call('ZADD', open, text(now + lease), id)
return {'granted', text(output), text(shadow_output), table.concat(expired, ' '), unpack(states)}
