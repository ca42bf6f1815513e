-- Shared by the scripts that add to counters: where an amount falls now, and how it is written there.

-- Where an amount of this kind falls now: its bucket, what is used and reserved in its window, and which window that
-- is (for a sliding one also u and r, what is in the bucket). nil where the windows sent are not those of now.
--   s: a = bucket width ms, b = bucket count
--   c, w: a = start of the window, b = its end, c = the end of the next, ms (lifetime: 0, and none)
local function locate(key, now, kind, a, b, c)
  if kind == 'n' then
    local reserved = number(redis.call('HGET', key, 'r0'))
    return {bucket = '0', used = 0, reserved = reserved, window = math.floor(now / 60000)}
  end
  if kind ~= 's' then
    local start, ends = tonumber(a), tonumber(b)
    if ends and (now < start or now >= tonumber(c)) then return nil end
    if ends and now >= ends then start, ends = ends, tonumber(c) end
    local bucket = text(start)
    if kind == 'w' then
      local f = redis.call('HMGET', key, 'o', 'p', 'f' .. bucket)
      local used = f[3] and math.floor((now - f[3]) / 1000) or 0
      return {bucket = bucket, ends = ends, window = start, current = f[1], previous = f[2], first = f[3],
        used = used, reserved = 0}
    end
    local f = redis.call('HMGET', key, 'o', 'p', 'u' .. bucket, 'r' .. bucket)
    return {bucket = bucket, ends = ends, window = start, current = f[1], previous = f[2],
      used = number(f[3]), reserved = number(f[4])}
  end
  local width, buckets = tonumber(a), tonumber(b)
  local current = math.floor(now / width)
  local oldest, bucket = current - buckets, text(current)
  local f = redis.call('HMGET', key, 'o', 'u', 'r', 'u' .. bucket, 'r' .. bucket)
  local place = {bucket = bucket, oldest = oldest, window = math.floor(current / buckets),
    used = number(f[2]), reserved = number(f[3]), u = number(f[4]), r = number(f[5]), is_known = f[4] or f[5],
    gone = {}, lives = 2 * width * buckets + 60000}
  local since = tonumber(f[1] or oldest)
  if since < oldest - buckets then -- idle for longer than the window: nothing of it counts
    place.used, place.reserved = 0, 0
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if string.find(field, '^[ur]%d') then table.insert(place.gone, field) end
    end
  elseif since < oldest then
    for past = since, oldest - 1 do
      table.insert(place.gone, 'u' .. text(past))
      table.insert(place.gone, 'r' .. text(past))
    end
    local amounts = redis.call('HMGET', key, unpack(place.gone))
    for i = 1, #amounts, 2 do
      place.used, place.reserved = place.used - number(amounts[i]), place.reserved - number(amounts[i + 1])
    end
  else
    place.oldest = since
  end
  return place
end

-- Lets a counter live as long as anybody may ask for it: past its window by the longest call and its late settlement.
local function keep(key, now, kind, place)
  if place.lives then
    redis.call('PEXPIRE', key, text(place.lives))
  elseif place.ends then
    redis.call('PEXPIRE', key, text(place.ends - now + DAY))
  elseif kind == 'n' then -- alone of its kind in that it may hold nothing but crossings
    if redis.call('HEXISTS', key, 'r0') == 1 then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, '60000') end
  end
end

-- Writes an amount where it falls: `field` is 'r' to reserve it, 'u' to use it. Writes only, and none that can fail.
-- Few calls: each costs more than all else here. So a counter's life is set where a bucket or window is new.
local function add(key, now, kind, place, field, amount)
  local is_new = true
  if kind == 'n' then
    is_new = place.reserved == 0
    redis.call('HSET', key, 'r0', text(place.reserved + amount))
  elseif kind == 's' then
    local used, reserved = place.used, place.reserved
    if field == 'u' then used = used + amount else reserved = reserved + amount end
    if #place.gone > 0 then redis.call('HDEL', key, unpack(place.gone)) end
    redis.call('HSET', key, 'o', text(place.oldest), 'u', text(used), 'r', text(reserved),
      field .. place.bucket, text(place[field] + amount))
    is_new = not place.is_known
  else
    is_new = place.current ~= place.bucket
    local total = (field == 'u' and place.used or place.reserved) + amount
    if kind == 'w' then field, total = 'f', place.first or now end
    if is_new and place.current then
      if place.previous then
        redis.call('HDEL', key, 'u' .. place.previous, 'r' .. place.previous, 'f' .. place.previous)
      end
      redis.call('HSET', key, 'p', place.current)
    end
    if is_new then redis.call('HSET', key, 'o', place.bucket) end
    redis.call('HSET', key, field .. place.bucket, text(total))
  end
  if is_new then keep(key, now, kind, place) end
end
