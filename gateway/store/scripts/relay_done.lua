-- Notes that a sink has events, then removes what every sink has.
-- KEYS: 1 outbox, 2 holder. ARGV: 1 sink, 2 relay, 3 takeover ms (0: give the partition back),
-- 4 '1' to remove nothing, 5 how many sinks there are, then their names, then the ids.
-- Returns 1, or 0 if another relay has the partition by now: then nothing has changed.
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[2])
else
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
local sinks = tonumber(ARGV[5])
if #ARGV == 5 + sinks then return 1 end
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 6 + sinks))
if ARGV[4] == '1' then return 1 end
local first = first_needed(KEYS[1], {unpack(ARGV, 6, 5 + sinks)})
if first then redis.call('XTRIM', KEYS[1], 'MINID', first) end
return 1
