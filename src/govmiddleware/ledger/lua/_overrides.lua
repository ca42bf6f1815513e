-- For acquire alone: what it adds to a reservation's holds, and takes from overrides.

-- A hold as the reservation keeps it, with what is added to it now.
local function grown(before, ask)
  local kind = ask.check == 'd' and ask.kind .. 'd' or ask.kind
  if not before then return kind .. ' ' .. ask.place.bucket .. ' ' .. text(ask.amount) end
  local parts, hold = before.parts, {kind}
  local last = parts[#parts]
  if last and last.bucket == ask.place.bucket then
    last.amount = last.amount + ask.amount
  else
    table.insert(parts, {bucket = ask.place.bucket, amount = ask.amount})
  end
  for _, part in ipairs(parts) do table.insert(hold, part.bucket .. ' ' .. text(part.amount)) end
  return table.concat(hold, ' ')
end

-- The room of a limit with overrides: its own, never below 0, and what is left of those that are in force.
--   limit      {name, hard, overrides..}; an override {the index of its counter in KEYS, what it adds, the end of its
--              time, whether that is used up}. One that is not adds all of it until something uses its counter up.
-- Returns {name, own, room, most: what would pass if the counter were empty, overrides = {{key, place, left}..}}
local function raised(ask, limit, now)
  local hard, left_of_all, overrides = limit[2], 0, {}
  for i = 3, #limit do
    local index, adds, ends, is_used_up = unpack(limit[i])
    local place, left = locate(KEYS[index], now, 'c', 0), 0
    local taken = place.used + place.reserved
    if now < ends then left = is_used_up and math.max(0, adds - taken) or taken == 0 and adds or 0 end
    if is_used_up then
      left_of_all = left_of_all + left
      table.insert(overrides, {key = KEYS[index], place = place, left = left})
    else
      hard = hard + left
    end
    ask.left = ask.left .. ' o:' .. text(left)
  end
  local own = math.max(0, hard - ask.place.used - ask.place.reserved)
  return {name = limit[1], own = own, room = own + left_of_all, most = hard + left_of_all, overrides = overrides}
end

-- Takes from overrides what a hold exceeds its limit's own room by. Writes only, and none that can fail.
local function take_overrides(ask, limit, held, holds, now)
  local excess = ask.amount - limit.own
  for _, override in ipairs(limit.overrides) do
    local taken = math.min(excess, override.left)
    if taken > 0 then
      excess = excess - taken
      add(override.key, now, 'c', override.place, 'r', taken)
      local hold = grown(held[override.key], {kind = 'c', place = override.place, amount = taken})
      for _, each in ipairs({override.key, hold, 'o:' .. override.key, limit.name .. ' ' .. ask.key}) do
        table.insert(holds, each)
      end
    end
  end
end
