-- Tells that somebody else uses a session than signed in: of each fact once, however often the
-- session is renewed and however many replicas saw it.
-- ARGV: 9 digest, 10 beginning of the key of what was told, 11 alerts that wait to be pushed,
-- 12 what to tell, JSON as `histories.written` has it, 13 the most facts told of one session.
-- Returns {lost, 'told' | 'known' | 'gone'}.
local digest, alert = ARGV[9], cjson.decode(ARGV[12])
local fields = parse(fetch(digest))
local now = now_ms()
if not fields or not rests_until(digest, now) then return {0, 'gone'} end
local told = ARGV[10] .. fields.family
if redis.call('SISMEMBER', told, alert.claim) == 1
   or redis.call('SCARD', told) >= tonumber(ARGV[13]) then
  return {0, 'known'}
end
redis.call('SADD', told, alert.claim)
local left = fields.expires_ms - now + margin
if redis.call('PTTL', told) < left then redis.call('PEXPIRE', told, number(left)) end
if alert.type ~= '' then raise(alert, digest, fields.user, now, ARGV[11]) end
return {lost, 'told'}
