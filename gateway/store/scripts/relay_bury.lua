-- Moves an event that a sink can never take to the dead letters: for this sink it is done.
-- KEYS: 1 outbox, 2 holder, 3 dead letters, 4 count of dropped events. ARGV: 1 sink, 2 relay,
-- 3 takeover ms, 4 id, 5 why, 6 most dead letters kept.
-- Returns 1, or 0 if another relay has the partition by now: then nothing has changed.
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local entry = redis.call('XRANGE', KEYS[1], ARGV[4], ARGV[4])[1]
if entry then
  local most = tonumber(ARGV[6])
  if redis.call('XLEN', KEYS[3]) >= most then
    redis.call('INCRBY', KEYS[4], redis.call('XTRIM', KEYS[3], 'MAXLEN', most - 1))
  end
  -- One that was put back bears the id that it had at first.
  local event, fields = ARGV[4], {}
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'dead.event' then event = value end
    if string.sub(name, 1, 5) ~= 'dead.' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  redis.call('XADD', KEYS[3], '*', 'dead.sink', ARGV[1], 'dead.event', event,
    'dead.why', ARGV[5], unpack(fields))
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[4])
return 1
