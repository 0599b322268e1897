-- Ends one session, with all its keys: during the grace of a renewal it has more than one, and who
-- ends the session by either must not leave the other.
-- ARGV: 9 digest, 10 end state.
-- Returns {lost, user}, {lost, false} if it was over by itself, or may have been: a memory may know
-- better, so that the fence stands behind that too; or {0} if there was none. A record that cannot
-- be read is removed too.
local digest, why, now = ARGV[9], ARGV[10], now_ms()
local record = fetch(digest)
if not record then return {0} end
local fields = parse(record)
if not fields then
  redis.call('DEL', records .. digest)
  forget_activity(digest)
  emit('session.ended', digest, '', now, 'why', why)
  fence()
  return {lost, ''}
end
local index = indexes .. fields.user_digest
if not rests_until(digest, now) then
  drop(index, digest, fields.expires_ms <= now and 'expired' or 'idle', fields.user, now)
  fence()
  return {lost, false}
end
drop(index, digest, why, fields.user, now)
if fields.renewed then
  for _, other in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local others = parse(fetch(other))
    if others and others.family == fields.family and rests_until(other, now) then
      drop(index, other, why, fields.user, now)
    end
  end
end
fence()
return {lost, fields.user}
