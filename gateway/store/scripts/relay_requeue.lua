-- Puts a dead letter back into the outbox, for the sink that could not take it. Where the outbox is
-- full, events go for it that every sink has: they are there only to be read.
-- KEYS: 1 outbox, 2 dead letters. ARGV: 1 id of the dead letter, 2 most events kept in the outbox,
-- from 3 on the names of the sinks.
-- Returns 'ok', 'gone' if there is no such dead letter, or 'full': it would push out an event.
local entry = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not entry then return 'gone' end
local most = tonumber(ARGV[2])
local excess = redis.call('XLEN', KEYS[1]) - most + 1
if excess > 0 then
  local going = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', excess)
  local first = first_needed(KEYS[1], {unpack(ARGV, 3)})
  if not first or not is_before(going[#going][1], first) then return 'full' end
  redis.call('XTRIM', KEYS[1], 'MAXLEN', most - 1)
end
local fields = {}
for i = 1, #entry[2], 2 do
  if entry[2][i] ~= 'dead.why' then
    fields[#fields + 1] = entry[2][i]
    fields[#fields + 1] = entry[2][i + 1]
  end
end
redis.call('XADD', KEYS[1], '*', unpack(fields))
redis.call('XDEL', KEYS[2], ARGV[1])
return 'ok'
