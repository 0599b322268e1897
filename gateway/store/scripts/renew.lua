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
if fields.g then return {0, 'renewed'} end
local left = fields.x - now
if left <= 0 then return {0, 'gone'} end
local index = indexes .. fields.h
local head = '{"c":' .. number(fields.c) .. ',"x":'
local signed_in = ARGV[15] ~= '' and '"t":' .. number(now) .. ',' or ''

redis.call('SET', records .. new, head .. number(fields.x) .. ',' .. signed_in .. ARGV[12],
  'PX', number(left + margin))
note_activity(new, now, fields.i, fields.x)
redis.call('ZADD', index, number(fields.x), new)
if grace > 0 and grace < left then
  redis.call('SET', records .. old, head .. number(now + grace) .. ',' .. ARGV[14],
    'PX', number(grace + margin))
  -- Its last activity stays: the grace never lets it rest longer than it might have.
  note_activity(old, rested - fields.i, fields.i, now + grace)
  redis.call('ZADD', index, number(now + grace), old)
else
  drop(index, old, 'rotated', fields.u, now)
end
keep_index(index)
if signed_in == '' then
  emit('session.renewed', new, fields.u, now, 'previous', partition .. old)
else
  emit('session.renewed', new, fields.u, now, 'previous', partition .. old,
    'data', '{"aal":' .. ARGV[15] .. '}')
end
fence()
return {lost, 'ok'}
