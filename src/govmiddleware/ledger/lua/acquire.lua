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
local id, step, api_token, most, least = ARGV[2], ARGV[3], ARGV[5], ARGV[8] + 0, ARGV[9] + 0
local now, epoch = clock(state, ARGV[1])
local stamp = text(now)
local FIRST_KEY, STRIDE = 5, 11 -- the first hold's is the one after it
local LARGEST = 2 ^ 53 - 1 -- of a counter: what is held of one that refuses nothing must not take it past what is exact

local asks = cmsgpack.unpack(ARGV[11])
local FIXED, PER_TOKEN, RAISES, KIND, CHECK, HARD, WATCH_FROM, WATCH, A, B, C = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local count, places, wholes, raises, fails = #asks / STRIDE, {}, {}, {}, {} -- wholes: what each asks for at `most`

-- What a hold asks for with so much output. Exact: the products stay below 2^53.
local function amount_at(at, output)
  local fixed, per_token = asks[at + FIXED], asks[at + PER_TOKEN]
  if per_token == 0 then return fixed end
  local whole = floor(per_token / 1e6)
  return fixed + output * whole + math.ceil(output * (per_token - whole * 1e6) / 1e6)
end

-- The least output that a hold may be given. A sliding window frees by itself soon: what would fit an empty one waits for
-- that.
local function least_output(at, whole)
  if asks[at + CHECK] == 'o' then return most end
  if step == 'grow' or asks[at + KIND] == 'c' or whole > asks[at + HARD] then return least end
  return most
end

-- The largest output that fits into `room`; nil where not even the least does.
local function most_output(at, whole, room)
  if whole <= room then return most end
  local low = least_output(at, whole)
  if low == most or amount_at(at, low) > room then return nil end
  local output = floor((room - asks[at + FIXED]) * 1e6 / asks[at + PER_TOKEN])
  while amount_at(at, output) > room do output = output - 1 end
  while amount_at(at, output + 1) <= room do output = output + 1 end
  return output
end

-- After how long `excess` has left a counter at the latest; -1 where time alone does not bring it.
local function frees_in(key, at, place, excess)
  if place.ends then return place.ends - now end
  if asks[at + KIND] ~= 's' then return -1 end
  local width, buckets, fields = asks[at + A], asks[at + B], {}
  for bucket = place.oldest, tonumber(place.bucket) do
    table.insert(fields, 'u' .. text(bucket))
    table.insert(fields, 'r' .. text(bucket))
  end
  local amounts = call('HMGET', key, unpack(fields))
  for i = 1, #amounts, 2 do
    excess = excess - number(amounts[i]) - number(amounts[i + 1])
    if excess <= 0 then return (place.oldest + (i - 1) / 2 + buckets + 1) * width - now end
  end
  return -1
end

-- Adds to `remarks` the crossings that were not told of in this window, and to `flags` what to set for them.
local function find_crossings(key, at, place, projected, admitted, remarks, flags)
  local window, is_clock = text(place.window), asks[at + KIND] == 'w'
  for name, soft, hard in string.gmatch(asks[at + WATCH], '(%S+) (%S+) (%S+)') do
    local past = projected > hard + 0 and 'h' or (admitted and projected >= soft + 0) and 's'
    if is_clock and projected >= hard + 0 then past = 'h' end
    if past and call('HGET', key, past .. name) ~= window then
      table.insert(flags, {key, at, place, past .. name, window})
      table.insert(remarks, past .. ':' .. name .. ':' .. window)
    end
  end
end

if not epoch then return {'lost'} end
local held, is_dead = read_reservation(reservation)
if is_dead or (step ~= 'open') ~= (held ~= nil) or held and held[SWEPT] > 0 then return {'gone'} end
if api_token ~= '' and call('SISMEMBER', active, api_token) == 0 then return {'revoked'} end
if step == 'open' then
  local most_records, records = ARGV[6] + 0, call('XLEN', journal)
  if records >= most_records then records = records - number(call('HGET', state, 'drained')) end
  if records >= most_records then return {'full'} end
end

local output, shadow_output = most, most
for n = 1, count do
  local at = (n - 1) * STRIDE
  local kind, check, hard = asks[at + KIND], asks[at + CHECK], asks[at + HARD]
  local place = locate(KEYS[FIRST_KEY + n], now, kind, asks[at + A], asks[at + B], asks[at + C])
  if not place then return {'stale', stamp} end
  places[n], wholes[n] = place, amount_at(at, most)
  if check ~= 'o' then
    -- What costs nothing passes a limit that is used up, and one that debt has gone past.
    local room, fits = hard and max(0, hard - place.used - place.reserved) or math.huge, most
    if asks[at + RAISES] then
      raises[n] = {lefts = {}}
      for i, limit in ipairs(asks[at + RAISES]) do
        local found = raised(place, limit, now, raises[n].lefts)
        raises[n][i] = found
        if found.room < room then room, asks[at + HARD] = found.room, found.most end
      end
    end
    if kind == 'w' then fits = room > 0 and most else fits = most_output(at, wholes[n], room) end
    fails[n], fits = not fits, fits or -1
    shadow_output = min(shadow_output, fits) -- what an enforced limit refuses, a dry run counts no more either
    if check == 'e' then output = min(output, fits) end
  end
end
local exceeded, shadow_exceeded = output < 0, shadow_output < 0

local answer, amounts, remarks, flags = {exceeded and 'exceeded' or 'granted', output, shadow_output, ''}, {}, {}, {}
for n = 1, count do
  local at, place = (n - 1) * STRIDE, places[n]
  local granted, wait, told_of = asks[at + CHECK] == 'd' and shadow_output or output, 0, nil
  local grants = (fails[n] or granted < 0) and least_output(at, wholes[n]) or granted
  local asked = grants == most and wholes[n] or amount_at(at, grants)
  local projected = place.used + place.reserved + asked
  if fails[n] then
    wait = asked > asks[at + HARD] and -1 or frees_in(KEYS[FIRST_KEY + n], at, place, projected - asks[at + HARD])
  end
  if projected >= asks[at + WATCH_FROM] and (asked > 0 or asks[at + KIND] == 'w') and (fails[n] or granted >= 0) then
    told_of = {}
    find_crossings(KEYS[FIRST_KEY + n], at, place, projected, granted >= 0, told_of, flags)
  end
  amounts[n] = min(asked, max(0, LARGEST - place.used - place.reserved))
  local i = 4 * n
  answer[i + 1], answer[i + 2], answer[i + 3], answer[i + 4] = place.used, place.reserved, asked, wait
  if raises[n] then
    told_of = told_of or {}
    for _, left in ipairs(raises[n].lefts) do table.insert(told_of, 'o:' .. left) end
  end
  if told_of and #told_of > 0 then table.insert(remarks, n - 1 .. ' ' .. table.concat(told_of, ' ')) end
end
for _, remark in ipairs(remarks) do table.insert(answer, remark) end

local holds, index, releases = {step == 'grow' and held[ADMITTED] or now, 0, ARGV[7]}, {}, {}
for i = FIRST_HOLD, held and #held or 0, HOLD_STRIDE do
  local key, hold = held[i], held[i + 1]
  local is_shadow = string.sub(hold, 2, 2) == 'd'
  if step == 'extend' and (exceeded or is_shadow and (shadow_exceeded or ARGV[10] == '1')) then
    table.insert(releases, read_buckets(key, hold))
  else
    index[key] = #holds + 1
    holds[#holds + 1], holds[#holds + 2], holds[#holds + 3] = key, hold, held[i + 2]
  end
end
answer[4] = table.concat(call('ZRANGE', open, '-inf', stamp, 'BYSCORE', 'LIMIT', '0', '4'), ' ')

-- From here on writes only, and none that can fail.

call('HSET', state, 'now', stamp)
for _, flag in ipairs(flags) do
  local key, at, place, field, window = unpack(flag)
  call('HSET', key, field, window)
  if exceeded or asks[at + CHECK] == 'd' and shadow_exceeded then keep(key, now, asks[at + KIND], place) end
end
for _, release in ipairs(releases) do settle_hold(release, 0) end
if exceeded then
  if step == 'extend' then
    call('DEL', reservation)
    call('ZREM', open, id)
  end
  return answer
end

local function hold_on(key, kind, bucket, amount, raised_limit)
  local i = index[key]
  if i then
    holds[i + 1] = grown(holds[i + 1], bucket, amount)
  else
    i = #holds + 1
    holds[i], holds[i + 1], holds[i + 2] = key, kind .. ' ' .. bucket .. ' ' .. text(amount), raised_limit
    index[key] = i
  end
end

for n = 1, count do
  local key, at, place = KEYS[FIRST_KEY + n], (n - 1) * STRIDE, places[n]
  local kind, is_shadow = asks[at + KIND], asks[at + CHECK] == 'd'
  if not (is_shadow and shadow_exceeded) then
    add(key, now, kind, place, 'r', amounts[n])
    hold_on(key, is_shadow and kind .. 'd' or kind, place.bucket, amounts[n], false)
    for _, limit in ipairs(raises[n] or {}) do take_overrides(key, amounts[n], limit, now, hold_on) end
  end
end
call('SET', reservation, cmsgpack.pack(holds))
call('ZADD', open, text(now + ARGV[4]), id)
return answer
