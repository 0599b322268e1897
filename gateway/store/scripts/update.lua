-- Replaces the record of a live session if it still is what the caller read.
-- ARGV: 9 digest, 10 the record that was read, 11 the new one, 12 user, 13 facts for the event.
-- Returns {lost, 'ok' | 'gone' | 'changed'}.
local record = redis.call('GET', records .. ARGV[9])
if not record or not rests_until(ARGV[9], now_ms()) then return {0, 'gone'} end
if record ~= ARGV[10] then return {0, 'changed'} end
redis.call('SET', records .. ARGV[9], ARGV[11], 'XX', 'KEEPTTL')
emit('session.updated', ARGV[9], ARGV[12], now_ms(), 'data', ARGV[13])
fence()
return {lost, 'ok'}
