-- Moves a live session to a new token. Its absolute end stays; the old one ends after the grace.
-- ARGV: 9 digest, 10 the record that was read, 11 new digest, 12 rest of the new record,
-- 13 grace ms, 14 rest of the old record, 15 the level if the user has just signed in again, or ''.
-- Returns {lost, 'ok' | 'gone' | 'changed' | 'renewed'}; the last for a key that is in its grace:
-- what it would give away ends with the grace.
local old, new, grace = ARGV[9], ARGV[11], tonumber(ARGV[13])
local record = redis.call('GET', records .. old)
local fields = parse(record)
local now = now_ms()
local rested = rests_until(old, now)
if not record or not rested then return {0, 'gone'} end
if record ~= ARGV[10] or not fields then return {0, 'changed'} end
if fields.in_grace then return {0, 'renewed'} end
local left = fields.expires_ms - now
if left <= 0 then return {0, 'gone'} end
local index = indexes .. fields.user_digest
local signs_in = ARGV[15] ~= ''
local authenticated = signs_in and now or fields.authenticated_ms

redis.call('SET', records .. new,
  record_of(fields.created_ms, fields.expires_ms, authenticated, ARGV[12]),
  'PX', number(left + margin))
note_activity(new, now, fields.idle_ms, fields.expires_ms)
redis.call('ZADD', index, number(fields.expires_ms), new)
if grace > 0 and grace < left then
  redis.call('SET', records .. old,
    record_of(fields.created_ms, now + grace, fields.authenticated_ms, ARGV[14]),
    'PX', number(grace + margin))
  -- Its last activity stays: the grace never lets it rest longer than it might have.
  note_activity(old, rested - fields.idle_ms, fields.idle_ms, now + grace)
  redis.call('ZADD', index, number(now + grace), old)
else
  drop(index, old, 'rotated', fields.user, now)
end
keep_index(index)
if not signs_in then
  emit('session.renewed', new, fields.user, now, 'previous', partition .. old)
else
  emit('session.renewed', new, fields.user, now, 'previous', partition .. old,
    'data', '{"aal":' .. ARGV[15] .. '}')
end
fence()
return {lost, 'ok'}
