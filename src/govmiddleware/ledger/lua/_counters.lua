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
-- A hold, as a reservation keeps it: "<kind>[d] <bucket> <amount>[ <bucket> <amount>..]", one pair for each time
-- that it grew; d marks a shadow, which counts for limits in dry_run alone. A hold on the counter KEY of an override has
-- a field beside it, o:KEY: "<limit> <counter of the limit>", whose hold it takes the excess of.
-- Amounts are integers below 2^53. They leave Lua through text(): tostring() turns to exponent form at 1e14.

local DAY = 86400000

local function text(number) return string.format('%d', number) end

local function number(value) return tonumber(value or '0') end

-- Milliseconds, never backwards in a workspace; and the epoch of its counters, false where the store has lost them or
-- nobody used them yet. `test_ms` is '' but in tests.
local function clock(state, test_ms)
  local now
  if test_ms == '' then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  else
    now = tonumber(test_ms)
  end
  local seen = redis.call('HMGET', state, 'now', 'epoch')
  return math.max(now, number(seen[1])), seen[2]
end

-- The holds of a reservation hash as {key = {kind, shadow, parts = {{bucket, amount}..}}}, its other fields, and
-- the number of holds.
local function read_reservation(key)
  local flat, holds, fields, count = redis.call('HGETALL', key), {}, {}, 0
  for i = 1, #flat, 2 do
    local kind, shadow, pairs_ = string.match(flat[i + 1], '^(%l)(d?)( [%d ]+)$')
    if kind and string.sub(flat[i], 1, 4) == 'gov:' then
      local parts = {}
      for bucket, amount in string.gmatch(pairs_, ' (%d+) (%d+)') do
        table.insert(parts, {bucket = bucket, amount = tonumber(amount)})
      end
      holds[flat[i]] = {kind = kind, shadow = shadow == 'd', parts = parts}
      count = count + 1
    else
      fields[flat[i]] = flat[i + 1]
    end
  end
  return holds, fields, count
end

local function amount_of(hold)
  local sum = 0
  for _, part in ipairs(hold.parts) do sum = sum + part.amount end
  return sum
end

-- What each hold on an override is charged, by key: of what was used, what is past the limit's own share, which is what
-- the reservation holds of the limit less what overrides hold of that. The first of KEYS is charged first.
local function override_charges(held, fields, first, actual_of)
  local index, past, charges = {}, {}, {}
  for i = first, #KEYS do index[KEYS[i]] = i end
  for key, hold in pairs(held) do
    local limit = fields['o:' .. key]
    if limit and not past[limit] then
      local counter = string.match(limit, ' (.*)$')
      past[limit] = index[counter] and actual_of(index[counter], held[counter]) - amount_of(held[counter]) or 0
    end
    if limit then past[limit] = past[limit] + amount_of(hold) end
  end
  for i = first, #KEYS do
    local hold, limit = held[KEYS[i]], fields['o:' .. KEYS[i]]
    if hold and limit then
      charges[KEYS[i]] = math.max(0, math.min(amount_of(hold), past[limit]))
      past[limit] = past[limit] - charges[KEYS[i]]
    end
  end
  return charges
end

-- Plans to replace what one hold reserves by what was used: returns the write, and the changes of `used` as
-- "<bucket> <amount>[ ..]". The parts are filled in their order, and what is past them all is the last one's debt.
-- `swept`: the hold was settled as reserved before, and is corrected now.
local function plan_settlement(key, hold, actual, swept)
  if hold.kind == 'w' then
    local bucket = hold.parts[1].bucket
    return function() end, bucket .. ' ' .. (redis.call('HGET', key, 'f' .. bucket) or '0')
  end
  if hold.kind == 'n' and swept then return function() end, '0 0' end
  if hold.kind == 'n' then
    local left = number(redis.call('HGET', key, 'r0')) - hold.parts[1].amount
    return function()
      if left > 0 then
        redis.call('HSET', key, 'r0', text(left))
      else -- crossings that were told of stay known for a while
        redis.call('HDEL', key, 'r0')
        redis.call('PEXPIRE', key, '60000')
      end
    end, '0 0'
  end
  local names = {'o', 'p', 'u', 'r'}
  for _, part in ipairs(hold.parts) do
    table.insert(names, 'u' .. part.bucket)
    table.insert(names, 'r' .. part.bucket)
  end
  local f = redis.call('HMGET', key, unpack(names))
  local oldest = tonumber(f[2] or f[1] or math.huge)
  local used_sum, reserved_sum, changes, sets, gone = number(f[3]), number(f[4]), {}, {}, {}
  for i, part in ipairs(hold.parts) do
    local used = i == #hold.parts and actual or math.min(actual, part.amount)
    actual = actual - used
    local reserved = swept and 0 or part.amount
    if swept then used = used - part.amount end
    table.insert(changes, part.bucket .. ' ' .. text(used))
    if tonumber(part.bucket) >= oldest then -- else the counter has forgotten it
      used_sum, reserved_sum = used_sum + used, reserved_sum - reserved
      table.insert(sets, names[3 + 2 * i])
      table.insert(sets, text(number(f[3 + 2 * i]) + used))
      local left = number(f[4 + 2 * i]) - reserved
      if left > 0 then
        table.insert(sets, names[4 + 2 * i])
        table.insert(sets, text(left))
      else
        table.insert(gone, names[4 + 2 * i])
      end
    end
  end
  if hold.kind == 's' and #sets > 0 then
    for _, each in ipairs({'u', text(used_sum), 'r', text(reserved_sum)}) do table.insert(sets, each) end
  end
  return function()
    if #sets > 0 then redis.call('HSET', key, unpack(sets)) end
    if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  end, table.concat(changes, ' ')
end

-- Plans the settlement of all holds, whose counters are KEYS from `first` on: the writes, and the changes as fields
-- of a journal entry. nil where the reservation holds a counter that was not declared.
local function plan_settlements(held, fields, count, first, actual_of, swept)
  local writes, entry, charges = {}, {}, override_charges(held, fields, first, actual_of)
  for i = first, #KEYS do
    local hold = held[KEYS[i]]
    if hold then
      local actual = charges[KEYS[i]] or actual_of(i, hold)
      local write, change = plan_settlement(KEYS[i], hold, actual, swept)
      count = count - 1
      table.insert(writes, write)
      table.insert(entry, KEYS[i])
      table.insert(entry, change)
    end
  end
  if count == 0 then return writes, entry end
end

-- Carries the plan out; `record` '' leaves nothing in the journal. Writes only, and none that can fail.
-- `admitted`: when the reservation was, ms.
local function write_settlement(state, open, journal, id, now, writes, entry, record, admitted)
  redis.call('HSET', state, 'now', text(now))
  for _, write in ipairs(writes) do write() end
  redis.call('ZREM', open, id)
  if record ~= '' then
    redis.call('XADD', journal, '*', 'at', text(now), 'admitted', admitted or text(now), 'record', record, unpack(entry))
  end
end
