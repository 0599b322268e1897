-- Gives the next events of a partition to one relay, oldest first: those given before and not done
-- since, to whomever; else new ones. All relays are one consumer of the group, because only one
-- at a time has the partition: that keeps a user's events in order, and leaves nothing to claim.
-- KEYS: 1 outbox, 2 holder. ARGV: 1 sink, 2 relay, 3 takeover ms, 4 most events.
-- Returns entries {id, {field, value, ...}}; {id} of one that was dropped before it was done.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[2] then return {} end
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end

local function read(from)
  local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], 'relay', 'COUNT', ARGV[4],
    'STREAMS', KEYS[1], from)
  if not reply then return {} end
  return reply.err and reply or reply[1][2]
end

local entries = read('0')
if entries.err and string.find(entries.err, 'NOGROUP', 1, true) then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0')
  entries = {}
end
if not entries.err and #entries == 0 then entries = read('>') end
if entries.err then return entries end
if #entries > 0 then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return entries
