-- Moves a live session to a new token. Its absolute end stays; the old one ends after the grace.
-- ARGV: 9 digest, 10 the record that was read, 11 new digest, 12 rest of the new record,
-- 13 grace ms, 14 rest of the old record, 15 the level if the user has just signed in again, or ''.
-- Returns {lost, 'ok' | 'gone' | 'changed' | 'renewed'}; the last for a key that is in its grace:
-- what it would give away ends with the grace.
local old, new, grace = ARGV[9], ARGV[11], tonumber(ARGV[13])
local record = redis.call('GET', records .. old)
local seen = redis.call('GET', activities .. old)
local fields = parse(record)
if not record or not seen then return {0, 'gone'} end
if record ~= ARGV[10] or not fields then return {0, 'changed'} end
if fields.g then return {0, 'renewed'} end
local now = now_ms()
local left = fields.x - now
if left <= 0 then return {0, 'gone'} end
local index = indexes .. fields.h
local head = '{"c":' .. number(fields.c) .. ',"x":'
local signed_in = ARGV[15] ~= '' and '"t":' .. number(now) .. ',' or ''

redis.call('SET', records .. new, head .. number(fields.x) .. ',' .. signed_in .. ARGV[12],
  'PX', number(left + margin))
redis.call('SET', activities .. new, number(now), 'PX', number(math.min(fields.i, left)))
redis.call('ZADD', index, number(fields.x), new)
set_due(index, new, now + math.min(fields.i, left))
if grace > 0 and grace < left then
  -- The grace never lets the old token rest longer than it might have.
  local rest = math.min(grace, redis.call('PTTL', activities .. old))
  redis.call('SET', records .. old, head .. number(now + grace) .. ',' .. ARGV[14],
    'PX', number(grace + margin))
  redis.call('SET', activities .. old, seen, 'PX', number(rest))
  redis.call('ZADD', index, number(now + grace), old)
  set_due(index, old, now + rest)
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
