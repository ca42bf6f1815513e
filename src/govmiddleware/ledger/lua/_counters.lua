-- Shared by all scripts: the clock, and what a reservation's holds do to counters when it ends.
--
-- A counter is a hash. Its amounts lie in buckets, so that each belongs to the time of its admission:
--   u<BUCKET>, r<BUCKET>   used and reserved
-- Four kinds (the letter comes with every hold):
--   s  sliding     BUCKET = floor(ms / width). o: the oldest bucket that still counts; u, r: sums from it on
--   c  calendar    BUCKET = start of the window, ms (lifetime: 0). o: the current one; p: the one before
--   w  wall clock  as c, but of amounts only f<BUCKET>: when it was first used, ms. The journal has that time, or the
--                  negative time of a reset: of all that it has of a bucket, the latest holds
--   n  now         BUCKET = 0, r0 alone: concurrency
-- s<LIMIT>, h<LIMIT> say in which window a crossing of a limit's soft or hard value was last told of.
--
-- A reservation is a string, as what all scripts read and write of it is all of it: '' for one that was cancelled before
-- it came, else a MessagePack array
--   {when it was admitted, ms; when it was swept, ms, 0 while it is open; the record for that case; its holds}
-- and a hold is an array too: {the counter's key; its kind; whether it is a shadow, which counts for limits in dry_run
-- alone; RAISES; bucket; amount; ..}, a pair more for each bucket that it grew in. RAISES is false, or of a hold on the
-- counter of an override the key of the limit's counter, whose hold it takes the excess of, behind the limit's name.
--
-- Amounts are integers below 2^53. They leave Lua through text(): tostring() turns to exponent form at 1e14.
-- What costs is redis.call(), and every further field in it; then strings that are made, tables, and closures.

local ADMITTED, SWEPT, RECORD, HOLDS = 1, 2, 3, 4 -- of a reservation
local KEY, KIND, IS_SHADOW, RAISES, PARTS = 1, 2, 3, 4, 5 -- of a hold; from PARTS on buckets and amounts
local DAY = 86400000

local call, format, min, max, floor = redis.call, string.format, math.min, math.max, math.floor

local function text(number) return format('%d', number) end

local function number(value) return tonumber(value or 0) end

-- Milliseconds, never backwards in a workspace; and the epoch of its counters, false where the store has lost them or
-- nobody used them yet. `test_ms` is '' but in tests.
local function clock(state, test_ms)
  local now = tonumber(test_ms)
  if not now then
    local time = call('TIME')
    now = time[1] * 1000 + floor(time[2] / 1000)
  end
  local seen = call('HMGET', state, 'now', 'epoch')
  return max(now, number(seen[1])), seen[2]
end

-- nil where there is none, and whether it was cancelled before it came.
local function read_reservation(key)
  local stored = call('GET', key)
  if stored and stored ~= '' then return cmsgpack.unpack(stored) end
  return nil, stored == ''
end

local function amount_of(hold)
  local sum = 0
  for i = PARTS + 1, #hold, 2 do sum = sum + hold[i] end
  return sum
end

-- What each hold on an override is charged, by key: of what was used, what is past the limit's own share, which is what
-- the reservation holds of the limit less what overrides hold of that. The first of KEYS is charged first.
local function override_charges(holds, first, actual_of)
  local held, index, past, charges = {}, {}, {}, {}
  for _, hold in ipairs(holds) do held[hold[KEY]] = hold end
  for i = first, #KEYS do index[KEYS[i]] = i end
  for _, hold in ipairs(holds) do
    local limit = hold[RAISES]
    if limit and not past[limit] then
      local counter = string.match(limit, ' (.*)$')
      past[limit] = index[counter] and actual_of(index[counter], held[counter]) - amount_of(held[counter]) or 0
    end
    if limit then past[limit] = past[limit] + amount_of(hold) end
  end
  for i = first, #KEYS do
    local hold = held[KEYS[i]]
    local limit = hold and hold[RAISES]
    if limit then
      charges[KEYS[i]] = max(0, min(amount_of(hold), past[limit]))
      past[limit] = past[limit] - charges[KEYS[i]]
    end
  end
  return charges
end

-- Plans to replace what one hold reserves by what was used: adds the commands to `writes`, and returns the changes of
-- `used` as "<bucket> <amount>[ ..]". The parts are filled in their order, and what is past them all is the last one's
-- debt. `swept`: the hold was settled as reserved before, and is corrected now.
local function plan_settlement(writes, hold, actual, swept)
  local key, kind, bucket, last = hold[KEY], hold[KIND], hold[PARTS], #hold
  if kind == 'w' then return bucket .. ' ' .. (call('HGET', key, 'f' .. bucket) or '0') end
  if kind == 'n' and swept then return '0 0' end
  if kind == 'n' then
    local left = number(call('HGET', key, 'r0')) - hold[last]
    if left > 0 then
      writes[#writes + 1] = {'HSET', key, 'r0', text(left)}
    else -- crossings that were told of stay known for a while
      writes[#writes + 1] = {'HDEL', key, 'r0'}
      writes[#writes + 1] = {'PEXPIRE', key, '60000'}
    end
    return '0 0'
  end

  local is_sliding = kind == 's'
  local names = is_sliding and {'o', 'u', 'r'} or {'o'}
  local at = #names
  for i = PARTS, last, 2 do
    names[#names + 1], names[#names + 2] = 'u' .. hold[i], 'r' .. hold[i]
  end
  local f = call('HMGET', key, unpack(names))
  local oldest = tonumber(f[1] or math.huge)
  if not is_sliding and tonumber(bucket) < oldest then oldest = tonumber(call('HGET', key, 'p') or oldest) end
  local used_sum, reserved_sum, changes, sets, gone = 0, 0, nil, {'HSET', key}, {'HDEL', key}
  for i = PARTS, last, 2 do
    local reserved, used = hold[i + 1], actual
    if i + 1 < last then used = min(actual, reserved) end
    actual = actual - used
    if swept then used, reserved = used - reserved, 0 end
    local change = hold[i] .. ' ' .. text(used)
    changes = changes and changes .. ' ' .. change or change
    if tonumber(hold[i]) >= oldest then -- else the counter has forgotten it
      used_sum, reserved_sum = used_sum + used, reserved_sum + reserved
      sets[#sets + 1], sets[#sets + 2] = names[at + 1], text(number(f[at + 1]) + used)
      local left = number(f[at + 2]) - reserved
      if left > 0 then
        sets[#sets + 1], sets[#sets + 2] = names[at + 2], text(left)
      else
        gone[#gone + 1] = names[at + 2]
      end
    end
    at = at + 2
  end
  if #sets > 2 then
    if is_sliding then
      sets[#sets + 1], sets[#sets + 2] = 'u', text(number(f[2]) + used_sum)
      sets[#sets + 1], sets[#sets + 2] = 'r', text(number(f[3]) - reserved_sum)
    end
    writes[#writes + 1] = sets
  end
  if #gone > 2 then writes[#writes + 1] = gone end
  return changes
end

-- Plans the settlement of all holds, whose counters are KEYS from `first` on: the writes, and the changes as fields
-- of a journal entry. nil where the reservation holds a counter that was not declared.
local function plan_settlements(holds, first, actual_of, swept)
  local held, count, has_raises = {}, #holds, false
  for i = 1, count do
    held[holds[i][KEY]] = holds[i]
    has_raises = has_raises or holds[i][RAISES]
  end
  local writes, entry, charges = {}, {}, has_raises and override_charges(holds, first, actual_of)
  for i = first, #KEYS do
    local hold = held[KEYS[i]]
    if hold then
      local actual = charges and charges[KEYS[i]] or actual_of(i, hold)
      count = count - 1
      entry[#entry + 1] = KEYS[i]
      entry[#entry + 1] = plan_settlement(writes, hold, actual, swept)
    end
  end
  if count == 0 then return writes, entry end
end

local function carry_out(writes)
  for i = 1, #writes do call(unpack(writes[i])) end
end

-- Carries the plan out; `record` '' leaves nothing in the journal. Writes only, and none that can fail.
-- `admitted`: when the reservation was, ms.
local function write_settlement(state, open, journal, id, now, writes, entry, record, admitted)
  call('HSET', state, 'now', text(now))
  carry_out(writes)
  call('ZREM', open, id)
  if record ~= '' then
    call('XADD', journal, '*', 'at', text(now), 'admitted', text(admitted), 'record', record, unpack(entry))
  end
end
