#!lua flags=allow-oom
-- Settle a reservation whose lease ran out, as reserved: nobody knows what was delivered since its
-- worker died, and reserved is the one figure that covers it. Journals the record left for this case.
--
-- KEYS  1 state  2 reservation  3 open  4 journal  5.. its counters
-- ARGV  1 test clock, ms or ''   2 reservation id
-- Returns  1 swept   0 not open, or renewed since   -1 it holds a counter that is not among KEYS

local state, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = clock(state, ARGV[1])
local held, fields, held_count = read_reservation(reservation)
local lease_end = redis.call('ZSCORE', open, ARGV[2])
if not lease_end or tonumber(lease_end) > now then return 0 end

local writes, entry = {}, {'at', text(now), 'record', fields.rec}
for i = 5, #KEYS do
  local hold = held[KEYS[i]]
  if hold then
    held_count = held_count - 1
    local used = hold.kind == 'n' and 0 or hold.amount
    table.insert(writes, plan_settlement(KEYS[i], hold, used))
    table.insert(entry, KEYS[i])
    table.insert(entry, hold.bucket .. ' ' .. text(used))
  end
end
if held_count > 0 then return -1 end

-- From here on writes only, and none that can fail.

redis.call('HSET', state, 'now', text(now))
for _, write in ipairs(writes) do if write then write() end end
redis.call('DEL', reservation)
redis.call('ZREM', open, ARGV[2])
if fields.rec then redis.call('XADD', journal, '*', unpack(entry)) end
return 1
