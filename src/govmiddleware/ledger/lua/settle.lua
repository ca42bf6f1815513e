#!lua flags=allow-oom
-- Replace what a reservation holds by what was used, journal it, and close the reservation.
-- Idempotent: a reservation that is not open is left alone. One that was swept is corrected instead, once.
-- An entry of the journal: at, admitted, record, and for each counter a field of its name: "<bucket> <amount>[ <bucket> ..]".
--
-- KEYS  1 state  2 reservation  3 open  4 journal  5.. its counters
-- ARGV  1 test clock, ms or ''   2 reservation id   3 the record to journal, '' for a release without one
--       4 for a release: how long to refuse this id if it is unknown, ms (a tombstone); '0' not to
--       5 '1' to correct what was swept: the record is of the difference
--       6.. the amount used of each counter; what an override is charged follows from that of its limit
-- Returns  the number of limits' holds settled   -1 not open   -2 it holds a counter that is not among KEYS (nothing was
--          written)   -3 it was swept, and this is no correction

local state, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = clock(state, ARGV[1])
local held, fields, held_count = read_reservation(reservation)
local corrects = ARGV[5] == '1'

if fields.swept and not corrects then return -3 end
if not (corrects and fields.swept or fields.rec) then
  if ARGV[4] ~= '0' then
    redis.call('HSET', reservation, 'dead', '1')
    redis.call('PEXPIRE', reservation, ARGV[4])
  end
  return -1
end

local used = function(i) return tonumber(ARGV[i + 1]) end
local writes, entry = plan_settlements(held, fields, held_count, 5, used, fields.swept)
if not writes then return -2 end
for name in pairs(fields) do
  if string.sub(name, 1, 2) == 'o:' then held_count = held_count - 1 end
end
write_settlement(state, open, journal, ARGV[2], now, writes, entry, ARGV[3], fields.at)
redis.call('DEL', reservation)
return held_count
