-- Shared by the scripts that add to counters: where an amount falls now, and how it is written there.

-- Where an amount of this kind falls now: its bucket, what is used and reserved in its window, and which window that
-- is (for a sliding one also u and r, what is in the bucket). nil where the windows sent are not those of now.
--   s: a = bucket width ms, b = bucket count
--   c, w: a = start of the window, b = its end, c = the end of the next, ms (lifetime: 0, and '' for both ends)
local function locate(key, now, kind, a, b, c)
  if kind == 'n' then
    return {bucket = '0', used = 0, reserved = number(call('HGET', key, 'r0')), window = floor(now / 60000)}
  end
  if kind ~= 's' then
    local bucket, ends = a, tonumber(b)
    if ends and (now < tonumber(a) or now >= tonumber(c)) then return nil end
    if ends and now >= ends then bucket, ends = b, tonumber(c) end
    local is_clock = kind == 'w'
    local f = call('HMGET', key, 'o', (is_clock and 'f' or 'u') .. bucket, 'r' .. bucket)
    local previous = f[1] and f[1] ~= bucket and call('HGET', key, 'p')
    if is_clock then
      return {bucket = bucket, ends = ends, window = bucket, current = f[1], previous = previous, first = f[2],
        used = f[2] and floor((now - f[2]) / 1000) or 0, reserved = 0}
    end
    return {bucket = bucket, ends = ends, window = bucket, current = f[1], previous = previous,
      used = number(f[2]), reserved = number(f[3])}
  end
  local width, buckets = tonumber(a), tonumber(b)
  local current = floor(now / width)
  local oldest, bucket = current - buckets, text(current)
  local f = call('HMGET', key, 'o', 'u', 'r', 'u' .. bucket, 'r' .. bucket)
  local place = {bucket = bucket, oldest = oldest, window = floor(current / buckets),
    used = number(f[2]), reserved = number(f[3]), u = number(f[4]), r = number(f[5]), is_known = f[4] or f[5],
    moves = true, gone = nil, lives = 2 * width * buckets + 60000}
  local since = tonumber(f[1] or oldest)
  if since < oldest - buckets then -- idle for longer than the window: nothing of it counts
    place.used, place.reserved, place.gone = 0, 0, {}
    for _, field in ipairs(call('HKEYS', key)) do
      if string.find(field, '^[ur]%d') then table.insert(place.gone, field) end
    end
  elseif since < oldest then
    local gone = {}
    for past = since, oldest - 1 do
      gone[#gone + 1], gone[#gone + 2] = 'u' .. text(past), 'r' .. text(past)
    end
    local amounts = call('HMGET', key, unpack(gone))
    for i = 1, #amounts, 2 do
      place.used, place.reserved = place.used - number(amounts[i]), place.reserved - number(amounts[i + 1])
    end
    place.gone = gone
  else
    place.oldest, place.moves = since, not f[1]
  end
  return place
end

-- Lets a counter live as long as anybody may ask for it: past its window by the longest call and its late settlement.
local function keep(key, now, kind, place)
  if place.lives then
    call('PEXPIRE', key, text(place.lives))
  elseif place.ends then
    call('PEXPIRE', key, text(place.ends - now + DAY))
  elseif kind == 'n' then -- alone of its kind in that it may hold nothing but crossings
    if call('HEXISTS', key, 'r0') == 1 then call('PERSIST', key) else call('PEXPIRE', key, '60000') end
  end
end

-- Writes an amount where it falls: `field` is 'r' to reserve it, 'u' to use it. Writes only, and none that can fail.
-- Few calls: each costs more than all else here. So a counter's life is set where a bucket or window is new.
local function add(key, now, kind, place, field, amount)
  if kind == 'n' then
    call('HSET', key, 'r0', text(place.reserved + amount))
    if place.reserved == 0 then call('PERSIST', key) end
    return
  end
  if kind == 's' then
    local used, reserved = place.used, place.reserved
    if field == 'u' then used = used + amount else reserved = reserved + amount end
    local in_bucket = text(place[field] + amount)
    if place.gone and #place.gone > 0 then call('HDEL', key, unpack(place.gone)) end
    if place.moves then
      call('HSET', key, 'o', text(place.oldest), 'u', text(used), 'r', text(reserved), field .. place.bucket, in_bucket)
    else
      call('HSET', key, field, text(field == 'u' and used or reserved), field .. place.bucket, in_bucket)
    end
    if not place.is_known then keep(key, now, kind, place) end
    return
  end
  local total = (field == 'u' and place.used or place.reserved) + amount
  if kind == 'w' then field, total = 'f', place.first or now end
  if place.current == place.bucket then
    call('HSET', key, field .. place.bucket, text(total))
    return
  end
  if place.previous then call('HDEL', key, 'u' .. place.previous, 'r' .. place.previous, 'f' .. place.previous) end
  if place.current then call('HSET', key, 'p', place.current) end
  call('HSET', key, 'o', place.bucket, field .. place.bucket, text(total))
  keep(key, now, kind, place)
end
