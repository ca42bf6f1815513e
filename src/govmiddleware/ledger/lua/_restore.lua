-- For adjust alone: amounts added where they fell once.

-- Plans to add `given`, "<field> <amount>[ ..]" with fields as a counter has them, to buckets that it still has, or
-- would have: returns the write, the changes of `used` as the journal has them, and their sum. f<BUCKET> is set.
-- The running sums of a sliding one are made anew from its buckets.
local function plan_restoration(key, now, kind, place, given)
  local fields, buckets, amounts, changes = {}, {}, {}, {}
  for letter, bucket, amount in string.gmatch(given, '([ufr])(%d+) (%-?%d+)') do
    table.insert(fields, letter .. bucket)
    table.insert(buckets, tonumber(bucket))
    table.insert(amounts, tonumber(amount))
    if letter ~= 'r' then table.insert(changes, bucket .. ' ' .. amount) end
  end

  local sets, gone, first = {}, {}, place.oldest or 0
  if kind == 'c' or kind == 'w' then -- it has its two newest windows
    local previous = call('HGET', key, 'p')
    local windows = {tonumber(place.current), tonumber(previous)}
    local newest, second = tonumber(place.current or -1), tonumber(previous or -1)
    for _, bucket in ipairs(buckets) do
      if bucket > newest then
        newest, second = bucket, newest
      elseif bucket < newest and bucket > second then
        second = bucket
      end
    end
    first = second >= 0 and second or newest
    for _, window in ipairs(windows) do
      if window < first then
        for _, letter in ipairs({'u', 'r', 'f'}) do table.insert(gone, letter .. text(window)) end
      end
    end
    sets = {'o', text(newest)}
    if second >= 0 then
      table.insert(sets, 'p')
      table.insert(sets, text(second))
    end
  end

  local sums = {u = 0, r = 0}
  if kind == 's' then
    for letter in pairs(sums) do
      local summed = {}
      for bucket = first, tonumber(place.bucket) do table.insert(summed, letter .. text(bucket)) end
      for _, amount in ipairs(redis.call('HMGET', key, unpack(summed))) do
        sums[letter] = sums[letter] + number(amount)
      end
    end
  end

  local stored, used = #fields > 0 and redis.call('HMGET', key, unpack(fields)) or {}, 0
  for i, field in ipairs(fields) do
    if buckets[i] >= first then
      local letter = string.sub(field, 1, 1)
      local total = letter == 'f' and amounts[i] or number(stored[i]) + amounts[i]
      if letter == 'u' then used = used + amounts[i] end
      if sums[letter] then sums[letter] = sums[letter] + amounts[i] end
      if letter == 'r' and total <= 0 then
        table.insert(gone, field)
      else
        table.insert(sets, field)
        table.insert(sets, text(total))
      end
    end
  end
  if kind == 's' then
    for _, each in ipairs({'o', text(place.oldest), 'u', text(sums.u), 'r', text(sums.r)}) do table.insert(sets, each) end
  end
  return function()
    if #sets > 0 then redis.call('HSET', key, unpack(sets)) end
    if kind == 'n' and #gone > 0 then redis.call('PEXPIRE', key, '60000') else keep(key, now, kind, place) end
    if place.gone and #place.gone > 0 then redis.call('HDEL', key, unpack(place.gone)) end
    if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  end, table.concat(changes, ' '), used
end
