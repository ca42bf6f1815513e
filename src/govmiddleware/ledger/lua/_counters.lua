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
-- A reservation is a string: '' for one that was cancelled before it came, else a flat MessagePack array
--   {when it was admitted, ms; when it was swept, 0 while it is open; the record for that case; KEY, HOLD, RAISES; ..}
-- with three for each counter that it holds. HOLD is "<kind>[d] <bucket> <amount>[ <bucket> <amount>..]", one pair for
-- each time that it grew; d marks a shadow, which counts for limits in dry_run alone. RAISES is false, or of a hold on
-- the counter of an override "<limit> <key of its counter>", whose hold it takes the excess of.
--
-- Amounts are integers below 2^53. They leave Lua through text(): tostring() turns to exponent form at 1e14. What costs
-- is each redis.call() and each field in it; then strings, tables and closures that are made. Numbers are read by adding
-- to them, which is one conversion, where tonumber() makes two.

local ADMITTED, SWEPT, RECORD, FIRST_HOLD, HOLD_STRIDE = 1, 2, 3, 4, 3
local DAY = 86400000

local call, format, match, min, max, floor = redis.call, string.format, string.match, math.min, math.max, math.floor

local function text(amount) return format('%d', amount) end

local function number(value) return (value or 0) + 0 end

-- Milliseconds, never backwards in a workspace; and the epoch of its counters, false where the store has lost them or
-- nobody used them yet. `test_ms` is '' but in tests.
local function clock(state, test_ms)
  local now
  if test_ms == '' then
    local time = call('TIME')
    now = time[1] * 1000 + floor(time[2] / 1000)
  else
    now = test_ms + 0
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

-- The kind of a hold, and its parts: bucket, amount, for each time that it grew.
local function read_hold(hold)
  local kind, bucket, amount, more = match(hold, '^(%l)d? (%d+) (%d+)(.*)$')
  local parts = {bucket, amount + 0}
  if more ~= '' then
    for each, grown in string.gmatch(more, ' (%d+) (%d+)') do
      parts[#parts + 1], parts[#parts + 2] = each, grown + 0
    end
  end
  return kind, parts
end

local function amount_of(parts)
  local sum = 0
  for i = 2, #parts, 2 do sum = sum + parts[i] end
  return sum
end

-- What each hold on an override is charged, by key: of what was used, what is past the limit's own share, which is what
-- the reservation holds of the limit less what overrides hold of that. The first of KEYS is charged first.
local function override_charges(held, first, actual_of)
  local index, amounts, raises, past, charges = {}, {}, {}, {}, {}
  for i = first, #KEYS do index[KEYS[i]] = i end
  for i = FIRST_HOLD, #held, HOLD_STRIDE do
    local _, parts = read_hold(held[i + 1])
    amounts[held[i]], raises[held[i]] = amount_of(parts), held[i + 2]
  end
  for key, limit in pairs(raises) do
    if limit and not past[limit] then
      local counter = match(limit, ' (.*)$')
      past[limit] = index[counter] and actual_of(index[counter], amounts[counter]) - amounts[counter] or 0
    end
    if limit then past[limit] = past[limit] + amounts[key] end
  end
  for i = first, #KEYS do
    local amount, limit = amounts[KEYS[i]], raises[KEYS[i]]
    if limit then
      charges[KEYS[i]] = max(0, min(amount, past[limit]))
      past[limit] = past[limit] - charges[KEYS[i]]
    end
  end
  return charges
end

-- What settle_hold wants of one hold: {key, kind, parts, what the counter has of them}.
local function read_buckets(key, hold)
  local kind, parts = read_hold(hold)
  local bucket, found = parts[1], nil
  if kind == 'w' then
    found = call('HMGET', key, 'f' .. bucket)
  elseif kind == 'n' then
    found = call('HMGET', key, 'r0')
  elseif #parts > 2 then
    local names = {'o'}
    for i = 1, #parts, 2 do
      names[#names + 1], names[#names + 2] = 'u' .. parts[i], 'r' .. parts[i]
    end
    names[#names + 1], names[#names + 2] = 'u', 'r'
    found = call('HMGET', key, unpack(names))
  elseif kind == 's' then
    found = call('HMGET', key, 'o', 'u' .. bucket, 'r' .. bucket, 'u', 'r')
  else
    found = call('HMGET', key, 'o', 'u' .. bucket, 'r' .. bucket)
  end
  -- One of the calendar's has the window before too.
  if kind == 'c' and found[1] and found[1] ~= bucket then found[1] = call('HGET', key, 'p') or found[1] end
  return {key, kind, parts, found}
end

-- Replaces what one hold reserves by what was used, and returns the changes of `used` as "<bucket> <amount>[ ..]".
-- Writes only, and none that can fail: while a cluster moves a slot, a key of it that a script has emptied is one that it
-- may not touch again (scriptVerifyClusterState in Redis' script.c), so what empties a key is the last that is done to it. The parts are filled in their order, and what is past them all is the last one's
-- debt. `swept`: the hold was settled as reserved before, and is corrected now.
local function settle_hold(hold, actual, swept)
  local key, kind, parts, found = unpack(hold)
  local last, changes = #parts, nil
  if kind == 'w' then return parts[1] .. ' ' .. (found[1] or '0') end
  if kind == 'n' and swept then return '0 0' end
  if kind == 'n' then
    local left = number(found[1]) - parts[2]
    if left > 0 then
      call('HSET', key, 'r0', text(left))
    else -- crossings that were told of stay known for a while
      call('PEXPIRE', key, '60000')
      call('HDEL', key, 'r0')
    end
    return '0 0'
  end

  local oldest, used_sum, reserved_sum = (found[1] or math.huge) + 0, number(found[last + 2]), number(found[last + 3])
  for i = 1, last, 2 do
    local bucket, reserved, used = parts[i], parts[i + 1], actual
    if i + 1 < last then used = min(actual, reserved) end
    actual = actual - used
    if swept then used, reserved = used - reserved, 0 end
    local change = bucket .. ' ' .. text(used)
    changes = changes and changes .. ' ' .. change or change
    if bucket + 0 >= oldest then -- else the counter has forgotten it
      local total, left = text(number(found[i + 1]) + used), number(found[i + 2]) - reserved
      if kind == 's' then
        used_sum, reserved_sum = used_sum + used, reserved_sum - reserved
        local sums, reserved_sums = text(used_sum), text(reserved_sum)
        if left > 0 then
          call('HSET', key, 'u', sums, 'r', reserved_sums, 'u' .. bucket, total, 'r' .. bucket, text(left))
        else
          call('HSET', key, 'u', sums, 'r', reserved_sums, 'u' .. bucket, total)
        end
      elseif left > 0 then
        call('HSET', key, 'u' .. bucket, total, 'r' .. bucket, text(left))
      else
        call('HSET', key, 'u' .. bucket, total)
      end
      if left <= 0 then call('HDEL', key, 'r' .. bucket) end
    end
  end
  return changes
end

-- What settle_hold wants of all holds, whose counters are KEYS from `first` on; and of each what was used. nil where a
-- hold's counter was not declared.
local function read_holds(held, first, actual_of)
  local index, holds, actuals, has_raises = {}, {}, {}, false
  for i = FIRST_HOLD, #held, HOLD_STRIDE do
    index[held[i]] = i
    has_raises = has_raises or held[i + 2]
  end
  local charges = has_raises and override_charges(held, first, actual_of) or {}
  for i = first, #KEYS do
    local key = KEYS[i]
    local at = index[key]
    if at then
      local n, hold = #holds + 1, read_buckets(key, held[at + 1])
      holds[n], actuals[n] = hold, charges[key] or actual_of(i, amount_of(hold[3]))
    end
  end
  if #holds == (#held + 1 - FIRST_HOLD) / HOLD_STRIDE then return holds, actuals end
end

-- Settles holds as they were read, and journals `record` with the changes, unless it is ''. Writes only, and none that can
-- fail. `admitted`: when the reservation was, ms.
local function settle_holds(holds, actuals, swept, state, open, journal, id, now, record, admitted)
  local entry, at = {}, text(now)
  call('HSET', state, 'now', at)
  for i = 1, #holds do
    entry[2 * i - 1], entry[2 * i] = holds[i][1], settle_hold(holds[i], actuals[i], swept)
  end
  call('ZREM', open, id)
  if record ~= '' then
    call('XADD', journal, '*', 'at', at, 'admitted', text(admitted), 'record', record, unpack(entry))
  end
end
