-- Ends one session.
-- ARGV: 9 digest, 10 end state.
-- Returns {lost, user}, or {0} if there was none. A record that cannot be read is removed too.
local digest = ARGV[9]
local record = redis.call('GET', records .. digest)
local seen = redis.call('EXISTS', activities .. digest)
if not record then
  redis.call('DEL', activities .. digest)
  return {0}
end
local fields = parse(record)
if not fields then
  redis.call('DEL', records .. digest, activities .. digest)
  emit('session.ended', digest, '', now_ms(), 'why', ARGV[10])
  return {lost, ''}
end
local why, now = ARGV[10], now_ms()
if seen == 0 then why = fields.x <= now and 'expired' or 'idle' end
drop(indexes .. fields.h, digest, why, fields.u, now)
if seen == 0 then return {lost} end
return {lost, fields.u}
