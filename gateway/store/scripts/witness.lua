-- Remembers the head of a chain if it is longer than the one remembered, or if that one was
-- contradicted: two relays may tell of their work in any order.
-- KEYS: 1 witness. ARGV: 1 length, 2 hash.
local head = redis.call('HGET', KEYS[1], 'head')
local length = head and tonumber(string.match(head, '^%d+')) or 0
local given_up = redis.call('HGET', KEYS[1], 'given_up')
if tonumber(ARGV[1]) > length or given_up == head then
  redis.call('HSET', KEYS[1], 'head', ARGV[1] .. ':' .. ARGV[2])
end
return 1
