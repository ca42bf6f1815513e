#!lua flags=allow-oom
-- Replace what a reservation holds by what was used, journal it, and close the reservation.
-- Idempotent: a reservation that is not open is left alone.
-- An entry of the journal: at, record, and for each counter a field of its name: "<bucket> <amount>".
--
-- KEYS  1 state  2 reservation  3 open  4 journal  5.. its counters
-- ARGV  1 test clock, ms or ''   2 reservation id   3 the record to journal, '' for a release without one
--       4 for a release: how long to refuse this id if it is unknown, ms (a tombstone); '0' not to
--       5.. the amount used of each counter
-- Returns  1 settled   0 not open   -1 it holds a counter that is not among KEYS (nothing was written)

local state, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = clock(state, ARGV[1])
local held, fields, held_count = read_reservation(reservation)

if not fields.rec then
  if ARGV[4] ~= '0' then
    redis.call('HSET', reservation, 'dead', '1')
    redis.call('PEXPIRE', reservation, ARGV[4])
  end
  return 0
end

local writes, entry = {}, {'at', text(now), 'record', ARGV[3]}
for i = 5, #KEYS do
  local hold = held[KEYS[i]]
  if hold then
    held_count = held_count - 1
    table.insert(writes, plan_settlement(KEYS[i], hold, tonumber(ARGV[i])))
    table.insert(entry, KEYS[i])
    table.insert(entry, hold.bucket .. ' ' .. ARGV[i])
  end
end
if held_count > 0 then return -1 end

-- From here on writes only, and none that can fail.

redis.call('HSET', state, 'now', text(now))
for _, write in ipairs(writes) do if write then write() end end
redis.call('DEL', reservation)
redis.call('ZREM', open, ARGV[2])
if ARGV[3] ~= '' then redis.call('XADD', journal, '*', unpack(entry)) end
return 1
