#!lua flags=allow-oom
-- Change what counters have used by what people and code did, and journal the difference. Idempotent: an adjustment
-- of an id that is remembered changes nothing, and is answered as the first was.
-- Counters may belong to a member of a book (a user or session of a budget), which keeps when each member was last
-- used, and the terms that it got when it was new.
--
-- KEYS  1 state  2 the adjustment  3 journal  4 the book  5 its terms  6 the restorer's turn  7.. counters
-- ARGV  1 test clock, ms or ''   2 how long to remember the id, ms   3 the record, '' to journal nothing
--       4 'add' amounts, 'reset' to take back what the current window has, 'forget': to reset, and the member too,
--         or 'restore' amounts in given buckets
--       5 the member, '' for none   6 its terms, if it is new
--       7 after how long without use a member is idle, ms; '' never   8 the most members; '' any number
--       9 '1' to forget it only where it is idle, or the one not used for the longest of too many
--       10 whose turn it must be to restore what the store has lost, which is done without an epoch; '' for all else
--       11.. five for each counter: the amount, 0 or more, or what plan_restoration() takes; kind, a, b, c as
--         locate() has them
-- Returns  {'done', terms, idle members.., '', "used change"..}   used: before; terms: '' where the member was
--              unknown; idle: a few that want forgetting, or the one not used for the longest where there are too many
--          {'idle'}         the member is: forget it first. Nothing was written
--          {'busy'}         it is neither, and was to be forgotten only then
--          {'late'}         the turn was another's, or over: nothing was written
--          {'lost'}         the workspace has no epoch: nothing was written
--          {'stale', now}   the windows sent are not those of the script's time: send again
-- Units  amounts in the meter's own (nano-USD for cost)

local state, seen, journal, book, terms, turn = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local action, member, idle_ms, most = ARGV[4], ARGV[5], tonumber(ARGV[7]), tonumber(ARGV[8])
local now, epoch = clock(state, ARGV[1])
local STRIDE, FIRST_ARG, FIRST_KEY = 5, 11, 7

local before = redis.call('LRANGE', seen, '0', '-1')
if #before > 0 then return before end
if ARGV[10] ~= '' then
  if redis.call('GET', turn) ~= ARGV[10] then return {'late'} end
elseif not epoch then
  return {'lost'}
end

-- What a reset takes from a counter: the changes as the journal has them, their sum, and the fields that go.
local function all_of(ask)
  local place, changes, sum, fields = ask.place, {}, 0, {}
  if ask.kind == 'n' then return '0 0', 0, {} end -- what is open is not used up
  if ask.kind == 'w' then return place.bucket .. ' ' .. text(-now), 0, {'f' .. place.bucket} end
  for bucket = ask.kind == 's' and place.oldest or tonumber(place.bucket), tonumber(place.bucket) do
    table.insert(fields, 'u' .. text(bucket))
  end
  local used = redis.call('HMGET', ask.key, unpack(fields))
  for i, amount in ipairs(used) do
    if number(amount) ~= 0 then
      sum = sum - number(amount)
      table.insert(changes, string.sub(fields[i], 2) .. ' ' .. text(-number(amount)))
    end
  end
  return table.concat(changes, ' '), sum, fields
end

local last = member ~= '' and redis.call('ZSCORE', book, member)
local is_known = last or action == 'add'
local is_idle = last and idle_ms and tonumber(last) <= now - idle_ms
if action ~= 'forget' and is_idle then return {'idle'} end
if ARGV[9] == '1' and not is_idle then
  local is_too_many = most and redis.call('ZCARD', book) > most
  if not is_too_many or redis.call('ZRANGE', book, '0', '0')[1] ~= member then return {'busy'} end
end

local asks, entry, answer = {}, {}, {'done', ''}
for i = 0, #KEYS - FIRST_KEY do
  local at = FIRST_ARG + i * STRIDE
  local ask = {key = KEYS[FIRST_KEY + i], kind = ARGV[at + 1]}
  ask.place = locate(ask.key, now, ask.kind, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  if not ask.place then return {'stale', text(now)} end
  local change
  if action == 'restore' then
    ask.write, change, ask.amount = plan_restoration(ask.key, now, ask.kind, ask.place, ARGV[at])
  elseif action == 'add' then
    ask.amount = (ask.kind == 'w' or ask.kind == 'n') and 0 or tonumber(ARGV[at])
    change = ask.place.bucket .. ' ' .. text(ask.kind == 'w' and (ask.place.first or now) or ask.amount)
  else
    change, ask.amount, ask.fields = all_of(ask)
  end
  if change ~= '' then
    table.insert(entry, ask.key)
    table.insert(entry, change)
  end
  asks[i + 1] = ask
end

if member ~= '' and is_known then answer[2] = redis.call('HGET', terms, member) or ARGV[6] end
if member ~= '' and action == 'add' then
  if idle_ms then
    local idle = redis.call('ZRANGE', book, '-inf', text(now - idle_ms), 'BYSCORE', 'LIMIT', '0', '4')
    for _, each in ipairs(idle) do table.insert(answer, each) end
  end
  if #answer == 2 and not last and most and redis.call('ZCARD', book) >= most then
    table.insert(answer, redis.call('ZRANGE', book, '0', '0')[1])
  end
end
table.insert(answer, '')
for _, ask in ipairs(asks) do
  table.insert(answer, text(ask.place.used) .. ' ' .. text(ask.amount))
end

-- From here on writes only, and none that can fail.

redis.call('HSET', state, 'now', text(now))
for _, ask in ipairs(asks) do
  if action == 'restore' then
    ask.write()
  elseif action == 'add' then
    if ask.kind ~= 'n' then add(ask.key, now, ask.kind, ask.place, 'u', ask.amount) end
  elseif action == 'forget' and ask.place.reserved == 0 and ask.kind ~= 'n' then
    redis.call('DEL', ask.key)
  elseif #ask.fields > 0 then
    if ask.kind == 's' and ask.amount ~= 0 then add(ask.key, now, ask.kind, ask.place, 'u', ask.amount) end
    redis.call('HDEL', ask.key, unpack(ask.fields))
  end
end
if member ~= '' then
  if action == 'forget' then
    redis.call('ZREM', book, member)
    redis.call('HDEL', terms, member)
  elseif is_known then
    redis.call('ZADD', book, text(now), member)
    redis.call('HSET', terms, member, answer[2])
  end
end
if ARGV[3] ~= '' then redis.call('XADD', journal, '*', 'at', text(now), 'record', ARGV[3], unpack(entry)) end
redis.call('RPUSH', seen, unpack(answer))
redis.call('PEXPIRE', seen, ARGV[2])
return answer
