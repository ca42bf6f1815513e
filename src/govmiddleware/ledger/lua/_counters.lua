-- Shared by all scripts: the clock, and what a hold does to a counter.
--
-- A counter is a hash. Its amounts lie in buckets, so that each belongs to the time of its admission:
--   u<BUCKET>, r<BUCKET>   used and reserved
-- Three kinds (the letter comes with every hold):
--   s  sliding   BUCKET = floor(ms / width). o: the oldest bucket that still counts; u, r: sums from it on
--   c  calendar  BUCKET = start of the window, ms (lifetime: 0). o: the current one; p: the one before
--   n  now       BUCKET = 0, r0 alone: concurrency
-- A hold, as kept in the reservation: "<kind> <bucket> <amount>".
-- Amounts are integers below 2^53. They leave Lua through text(): tostring() turns to exponent form at 1e14.

local DAY = 86400000

local function text(number) return string.format('%.0f', number) end

local function number(value) return tonumber(value or '0') end

-- Milliseconds, never backwards in a workspace. `test_ms` is '' but in tests.
local function clock(state, test_ms)
  local now
  if test_ms == '' then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  else
    now = tonumber(test_ms)
  end
  return math.max(now, number(redis.call('HGET', state, 'now')))
end

-- The holds of a reservation hash as {key = {kind, bucket, amount}}, its other fields, and the number of holds.
local function read_reservation(key)
  local flat, holds, fields, count = redis.call('HGETALL', key), {}, {}, 0
  for i = 1, #flat, 2 do
    local kind, bucket, amount = string.match(flat[i + 1], '^(%a) (%d+) (%d+)$')
    if kind and string.sub(flat[i], 1, 4) == 'gov:' then
      holds[flat[i]] = {kind = kind, bucket = bucket, amount = tonumber(amount)}
      count = count + 1
    else
      fields[flat[i]] = flat[i + 1]
    end
  end
  return holds, fields, count
end

-- Reads what settling one hold needs; returns the write, or false where its bucket counts no more.
local function plan_settlement(key, hold, actual)
  local u, r = 'u' .. hold.bucket, 'r' .. hold.bucket
  if hold.kind == 'n' then
    local left = number(redis.call('HGET', key, r)) - hold.amount
    return function()
      if left > 0 then redis.call('HSET', key, r, text(left)) else redis.call('DEL', key) end
    end
  end
  local f = redis.call('HMGET', key, 'o', 'p', 'u', 'r', u, r)
  local oldest = f[2] or f[1]
  if not oldest or tonumber(hold.bucket) < tonumber(oldest) then return false end
  local used, reserved = number(f[5]) + actual, number(f[6]) - hold.amount
  return function()
    if hold.kind == 's' then
      redis.call('HSET', key, 'u', text(number(f[3]) + actual), 'r', text(number(f[4]) - hold.amount), u, text(used))
    else
      redis.call('HSET', key, u, text(used))
    end
    if reserved > 0 then redis.call('HSET', key, r, text(reserved)) else redis.call('HDEL', key, r) end
  end
end

-- Plans the settlement of all holds, whose counters are KEYS from `first` on: the writes, and the holds as fields
-- of a journal entry. nil where the reservation holds a counter that was not declared.
local function plan_settlements(held, count, first, actual_of)
  local writes, entry = {}, {}
  for i = first, #KEYS do
    local hold = held[KEYS[i]]
    if hold then
      local actual = actual_of(i, hold)
      count = count - 1
      table.insert(writes, plan_settlement(KEYS[i], hold, actual))
      table.insert(entry, KEYS[i])
      table.insert(entry, hold.bucket .. ' ' .. text(actual))
    end
  end
  if count == 0 then return writes, entry end
end

-- Carries the plan out and closes the reservation; `record` '' leaves nothing in the journal. Writes only, and none
-- that can fail.
local function close_reservation(state, reservation, open, journal, id, now, writes, entry, record)
  redis.call('HSET', state, 'now', text(now))
  for _, write in ipairs(writes) do if write then write() end end
  redis.call('DEL', reservation)
  redis.call('ZREM', open, id)
  if record ~= '' then redis.call('XADD', journal, '*', 'at', text(now), 'record', record, unpack(entry)) end
end
