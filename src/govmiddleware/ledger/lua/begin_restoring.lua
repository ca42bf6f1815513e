#!lua
-- Take the turn to restore what the store has lost of a workspace, and let the journal's ids go on after the last one
-- that was given out, which a store that came back empty does not know.
--
-- KEYS  1 the turn  2 journal
-- ARGV  1 who asks   2 for how long, ms   3 the last id, '' where there is none
-- Returns  1 it is theirs   0 it is another's

if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
if ARGV[3] ~= '' then
  -- Refused where the journal is past it. An entry that goes at once leaves its id as the last one.
  local added = redis.pcall('XADD', KEYS[2], ARGV[3], 'record', '')
  if type(added) == 'string' then redis.call('XDEL', KEYS[2], ARGV[3]) end
end
return 1
