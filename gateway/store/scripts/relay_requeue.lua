-- Puts a dead letter back into the outbox, for the sink that could not take it.
-- KEYS: 1 outbox, 2 dead letters. ARGV: 1 id of the dead letter, 2 most events kept in the outbox.
-- Returns 'ok', 'gone' if there is no such dead letter, or 'full': it would push out an event.
local entry = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not entry then return 'gone' end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 'full' end
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
