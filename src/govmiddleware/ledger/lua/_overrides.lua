-- For acquire alone: what it adds to a reservation's holds, and takes from overrides.

-- A hold with an amount added to it: another part, unless it grew in this bucket last.
local function grown(hold, bucket, amount)
  local before, last, held = match(hold, '^(.*) (%d+) (%d+)$')
  if last == bucket then return before .. ' ' .. bucket .. ' ' .. text(held + amount) end
  return hold .. ' ' .. bucket .. ' ' .. text(amount)
end

-- The room of a limit with overrides: its own, never below 0, and what is left of those that are in force.
--   limit      {name, hard, overrides..}; an override {the index of its counter in KEYS, what it adds, the end of its
--              time, whether that is used up}. One that is not adds all of it until something uses its counter up.
-- Returns {name, own, room, most: what would pass if the counter were empty, overrides = {{key, place, left}..}}, and
-- adds what each adds now to `lefts`.
local function raised(place, limit, now, lefts)
  local hard, left_of_all, overrides = limit[2], 0, {}
  for i = 3, #limit do
    local index, adds, ends, is_used_up = unpack(limit[i])
    local at, left = locate(KEYS[index], now, 'c', '0', '', ''), 0
    local taken = at.used + at.reserved
    if now < ends then left = is_used_up and max(0, adds - taken) or taken == 0 and adds or 0 end
    if is_used_up then
      left_of_all = left_of_all + left
      table.insert(overrides, {key = KEYS[index], place = at, left = left})
    else
      hard = hard + left
    end
    table.insert(lefts, text(left))
  end
  local own = max(0, hard - place.used - place.reserved)
  return {name = limit[1], own = own, room = own + left_of_all, most = hard + left_of_all, overrides = overrides}
end

-- Takes from overrides what a hold exceeds its limit's own room by. Writes only, and none that can fail.
local function take_overrides(counter, amount, limit, now, hold_on)
  local excess = amount - limit.own
  for _, override in ipairs(limit.overrides) do
    local taken = min(excess, override.left)
    if taken > 0 then
      excess = excess - taken
      add(override.key, now, 'c', override.place, 'r', taken)
      hold_on(override.key, 'c', override.place.bucket, taken, limit.name .. ' ' .. counter)
    end
  end
end
