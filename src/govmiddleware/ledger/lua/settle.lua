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

local KEYS, ARGV = KEYS, ARGV
local state, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = clock(state, ARGV[1])
local held = read_reservation(reservation)

if not held then
  if ARGV[4] ~= '0' then call('SET', reservation, '', 'PX', ARGV[4]) end
  return -1
end
local swept = held[SWEPT] > 0
if swept and ARGV[5] ~= '1' then return -3 end

local function used(i) return ARGV[i + 1] + 0 end

local holds, actuals = read_holds(held, 5, used)
if not holds then return -2 end
settle_holds(holds, actuals, swept, state, open, journal, ARGV[2], now, ARGV[3], held[ADMITTED])
call('DEL', reservation)
local count = 0
for i = FIRST_HOLD, #held, HOLD_STRIDE do
  if not held[i + 2] then count = count + 1 end
end
return count
