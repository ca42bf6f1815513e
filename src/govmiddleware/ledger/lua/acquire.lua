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
--       11 the new holds, as one flat MessagePack array: one string is read faster than many. Eleven for each: the
--           amount: fixed, and millionths for each output token; the limits with overrides, as raised() has them, or
--           false; kind; 'e' enforced, 'd' shadow or 'o' only counted; (of the limits without overrides) hard, or
--           false; from which projected amount on to look for crossings, and "limit soft hard .." to look at; a, b, c
--           as locate() has them
-- Returns  {'granted', output, shadow output, expired, four numbers a hold.., remarks..}
--              shadow output: what the limits in dry_run would have granted, -1 where they would have refused
--              expired: a few reservations that want sweeping
--          {'exceeded', -, -, expired, four numbers a hold.., remarks..}
--                                           nothing was taken; an extension's earlier holds are released
--          {'revoked'} {'full'} {'gone'}    nothing was taken; 'gone': cancelled before, or not open any more
--          {'lost'}                         nothing was taken: the workspace has no epoch
--          {'stale', now}                   the windows sent are not those of the script's time: send again
--          the numbers: used, reserved, asked, frees in so many ms, before this call; -1 where time does not help. A
--          remark, "<which hold, from 0> .. ..", has its crossings and overrides, in their order: a crossing is
--          "s:LIMIT:WINDOW" or "h:LIMIT:WINDOW", told once for each window; an override "o:LEFT", what it adds now
-- Units  amounts in the meter's own (nano-USD for cost)

local KEYS, ARGV = KEYS, ARGV
local state, reservation, open, active, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, step, api_token, record = ARGV[2], ARGV[3], ARGV[5], ARGV[7]
local most, least = tonumber(ARGV[8]), tonumber(ARGV[9])
local now, epoch = clock(state, ARGV[1])
local FIRST_KEY, STRIDE = 6, 11
local LARGEST = 2 ^ 53 - 1 -- of a counter: what is held of one that refuses nothing must not take it past what is exact

-- Exact: the products stay below 2^53.
local function amount_at(ask, output)
  if ask.per_token == 0 then return ask.fixed end
  local whole = floor(ask.per_token / 1e6)
  return ask.fixed + output * whole + math.ceil(output * (ask.per_token - whole * 1e6) / 1e6)
end

-- The largest output between `low` and `most` that fits into `room`; nil where not even `low` does.
local function most_output(ask, room, low)
  if ask.all <= room then return most end
  if low == most or amount_at(ask, low) > room then return nil end
  local output = floor((room - ask.fixed) * 1e6 / ask.per_token)
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
  local amounts = call('HMGET', ask.key, unpack(fields))
  for i = 1, #amounts, 2 do
    excess = excess - number(amounts[i]) - number(amounts[i + 1])
    if excess <= 0 then return (place.oldest + (i - 1) / 2 + buckets + 1) * width - now end
  end
  return -1
end

-- Adds to `remarks` the crossings that were not told of in this window, and to `flags` what to set for them.
local function find_crossings(ask, projected, admitted, remarks, flags)
  local window = text(ask.place.window)
  for name, soft, hard in string.gmatch(ask.watch, '(%S+) (%S+) (%S+)') do
    local past = projected > tonumber(hard) and 'h' or (admitted and projected >= tonumber(soft)) and 's'
    if ask.kind == 'w' and projected >= tonumber(hard) then past = 'h' end
    if past and call('HGET', ask.key, past .. name) ~= window then
      table.insert(flags, {ask, past .. name, window})
      table.insert(remarks, past .. ':' .. name .. ':' .. window)
    end
  end
end

if not epoch then return {'lost'} end
local held, is_dead = read_reservation(reservation)
if is_dead or (step ~= 'open') ~= (held ~= nil) or held and held[SWEPT] > 0 then return {'gone'} end
if api_token ~= '' and call('SISMEMBER', active, api_token) == 0 then return {'revoked'} end
if step == 'open' then
  local most_records, records = tonumber(ARGV[6]), call('XLEN', journal)
  if records >= most_records then records = records - number(call('HGET', state, 'drained')) end
  if records >= most_records then return {'full'} end
end

local asks, output, shadow_output, told = {}, most, most, cmsgpack.unpack(ARGV[11])
for i = 1, #told, STRIDE do
  local fixed, per_token, limits, kind, check, hard, watch_from, watch, a, b, c = unpack(told, i, i + STRIDE - 1)
  local key = KEYS[FIRST_KEY + #asks]
  local place = locate(key, now, kind, a, b, c)
  if not place then return {'stale', text(now)} end
  local ask = {key = key, kind = kind, check = check, fixed = fixed, per_token = per_token, hard = hard, a = a, b = b,
    watch_from = watch_from, watch = watch, place = place, low = most, all = fixed, amount = 0, fails = false,
    raised = false, lefts = false}
  if per_token > 0 then ask.all = amount_at(ask, most) end
  if check ~= 'o' then
    -- What costs nothing passes a limit that is used up, and one that debt has gone past.
    local room, fits = hard and max(0, hard - place.used - place.reserved) or math.huge
    if limits then
      ask.raised, ask.lefts = {}, {}
      for _, limit in ipairs(limits) do
        local found = raised(place, limit, now, ask.lefts)
        table.insert(ask.raised, found)
        if found.room < room then room, ask.hard = found.room, found.most end
      end
    end
    -- A sliding window frees by itself soon: what would fit an empty one waits for that.
    if step == 'grow' or kind == 'c' or ask.all > ask.hard then ask.low = least end
    if kind == 'w' then fits = room > 0 and most else fits = most_output(ask, room, ask.low) end
    ask.fails, fits = not fits, fits or -1
    shadow_output = min(shadow_output, fits) -- what an enforced limit refuses, a dry run counts no more either
    if check == 'e' then output = min(output, fits) end
  end
  asks[#asks + 1] = ask
end
local exceeded, shadow_exceeded = output < 0, shadow_output < 0

local answer, remarks, flags = {exceeded and 'exceeded' or 'granted', output, shadow_output, ''}, {}, {}
for i, ask in ipairs(asks) do
  local place, granted, wait, told_of = ask.place, ask.check == 'd' and shadow_output or output, 0, {}
  local grants = (ask.fails or granted < 0) and ask.low or granted
  local asked = grants == most and ask.all or amount_at(ask, grants)
  local projected = place.used + place.reserved + asked
  if ask.fails then wait = asked > ask.hard and -1 or frees_in(ask, projected - ask.hard) end
  if projected >= ask.watch_from and (asked > 0 or ask.kind == 'w') and (ask.fails or granted >= 0) then
    find_crossings(ask, projected, granted >= 0, told_of, flags)
  end
  ask.amount = min(asked, max(0, LARGEST - place.used - place.reserved))
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = place.used, place.reserved, asked, wait
  for _, left in ipairs(ask.lefts or {}) do table.insert(told_of, 'o:' .. left) end
  if #told_of > 0 then table.insert(remarks, i - 1 .. ' ' .. table.concat(told_of, ' ')) end
end
for _, remark in ipairs(remarks) do table.insert(answer, remark) end

local holds, by_key, releases = {}, {}, {}
for _, hold in ipairs(held and held[HOLDS] or {}) do
  if step == 'extend' and (exceeded or hold[IS_SHADOW] and (shadow_exceeded or ARGV[10] == '1')) then
    plan_settlement(releases, hold, 0)
  else
    holds[#holds + 1], by_key[hold[KEY]] = hold, hold
  end
end
answer[4] = table.concat(call('ZRANGE', open, '-inf', text(now), 'BYSCORE', 'LIMIT', '0', '4'), ' ')

-- From here on writes only, and none that can fail.

call('HSET', state, 'now', text(now))
carry_out(releases)
for _, flag in ipairs(flags) do
  local ask = flag[1]
  call('HSET', ask.key, flag[2], flag[3])
  if exceeded or ask.check == 'd' and shadow_exceeded then keep(ask.key, now, ask.kind, ask.place) end
end
if exceeded then
  if step == 'extend' then
    call('DEL', reservation)
    call('ZREM', open, id)
  end
  return answer
end

local function hold_on(key, kind, is_shadow, raises, bucket, amount)
  if by_key[key] then return grown(by_key[key], bucket, amount) end
  holds[#holds + 1] = {key, kind, is_shadow, raises, bucket, amount}
  by_key[key] = holds[#holds]
end

for _, ask in ipairs(asks) do
  if ask.check ~= 'd' or not shadow_exceeded then
    add(ask.key, now, ask.kind, ask.place, 'r', ask.amount)
    hold_on(ask.key, ask.kind, ask.check == 'd', false, ask.place.bucket, ask.amount)
    for _, limit in ipairs(ask.raised or {}) do take_overrides(ask, limit, now, hold_on) end
  end
end
local admitted = step == 'grow' and held[ADMITTED] or now
call('SET', reservation, cmsgpack.pack({admitted, 0, record, holds}))
call('ZADD', open, text(now + ARGV[4]), id)
return answer
