#!lua flags=allow-oom
-- Settle a reservation whose lease ran out, as reserved: nobody knows what was delivered since its worker died, and
-- reserved is the one figure that covers it. Journals the record left for this case. What it held is kept for a day,
-- so that a settlement that comes late can correct it.
--
-- KEYS  1 state  2 reservation  3 open  4 journal  5.. its counters
-- ARGV  1 test clock, ms or ''   2 reservation id
-- Returns  1 swept   0 not open, or renewed since   -1 it holds a counter that is not among KEYS

local state, reservation, open, journal = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = clock(state, ARGV[1])
local held = read_reservation(reservation) or {now, 0, ''} -- the store lost it
local lease_end = call('ZSCORE', open, ARGV[2])
if not lease_end or lease_end + 0 > now then return 0 end

local function reserved(_, amount) return amount end

local holds, actuals = read_holds(held, 5, reserved)
if not holds then return -1 end
settle_holds(holds, actuals, false, state, open, journal, ARGV[2], now, held[RECORD], held[ADMITTED])
held[SWEPT], held[RECORD] = now, ''
call('SET', reservation, cmsgpack.pack(held), 'PX', text(DAY))
return 1
