-- Adds a session, and in the same step ends those that must go for it: over by themselves,
-- on the same device, beyond the limit (least recently active first).
-- ARGV: 9 digest, 10 rest of the record, 11 idle ms, 12 absolute ms, 13 limit (0: none),
-- 14 'evict' or 'deny', 15 device id whose sessions are replaced ('': none), 16 user,
-- 17 digest of the user, 18 facts for the event; 19 history of the user, 20 alerts that wait to be
-- pushed, 21 what the alert rules say of it, JSON as `histories.argument` has it ('': nothing).
-- Returns {lost, 'ok', created, told, digest, why, digest, why, ...}, {lost, 'refused', told},
-- {0, 'limit'}, or {0, 'learnt'} if the history is no longer what the rules were asked about.
-- `told` has a 1 for each alert that nobody was told of before, else a 0.
local digest, rest, idle, absolute = ARGV[9], ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])
local limit, on_limit, device, user = tonumber(ARGV[13]), ARGV[14], ARGV[15], ARGV[16]
local index = indexes .. ARGV[17]
local now = now_ms()
local expires = now + absolute
local alerts = ARGV[21] ~= '' and cjson.decode(ARGV[21]) or nil

if alerts and alerts.revision ~= ''
   and (redis.call('HGET', ARGV[19], 'revision') or '0') ~= alerts.revision then
  return {0, 'learnt'}
end

-- Tells of what was found, once for each fact of a user, and learns of the sign-in.
local function tell()
  if not alerts then return '' end
  local told = {}
  for _, alert in ipairs(alerts.alerts) do
    local is_new = redis.call('HSETNX', ARGV[19], alert.claim, number(now))
    told[#told + 1] = is_new
    if is_new == 1 and alert.type ~= '' then raise(alert, digest, user, now, ARGV[20]) end
  end
  if #alerts.set > 0 then redis.call('HSET', ARGV[19], unpack(alerts.set)) end
  if #alerts.forget > 0 then redis.call('HDEL', ARGV[19], unpack(alerts.forget)) end
  redis.call('HINCRBY', ARGV[19], 'revision', 1)
  redis.call('PEXPIRE', ARGV[19], number(alerts.memory))
  return table.concat(told)
end

if alerts and alerts.refuse then
  local told = tell()
  return {lost, 'refused', told}
end

-- The old key of a renewal in its grace is no session of its own: it does not count, and it goes
-- with the session that it belongs to.
local leaving, live, graces = {}, {}, {}
-- Without a limit a user may have any number: then only the 1,000 that end first are looked at,
-- because a script over 50,000 would block Redis for 80 ms.
local members = redis.call('ZRANGE', index, 0, limit > 0 and -1 or 999, 'WITHSCORES')
for i = 1, #members, 2 do
  local other = members[i]
  local over = natural_end(other, members[i + 1], now)
  local fields = not over and parse(fetch(other)) or nil
  if over then
    leaving[#leaving + 1] = {other, over}
  elseif fields and fields.device_id == device then
    leaving[#leaving + 1] = {other, 'replaced'}
  elseif fields and fields.in_grace then
    graces[#graces + 1] = {other, fields.family}
  else
    local seen = fields and rests_until(other, now) - fields.idle_ms or 0
    live[#live + 1] = {other, seen, fields and fields.family}
  end
end

if limit > 0 and #live >= limit then
  if on_limit == 'deny' then return {0, 'limit'} end
  table.sort(live, function(a, b) return a[2] < b[2] end)
  for i = 1, #live - limit + 1 do
    leaving[#leaving + 1] = {live[i][1], 'evicted'}
    for _, grace in ipairs(graces) do
      if grace[2] == live[i][3] then leaving[#leaving + 1] = {grace[1], 'evicted'} end
    end
  end
end

-- The new one first: out of memory, or with activities that are broken, this fails before anything
-- has changed.
note_activity(digest, now, idle, expires)
redis.call('SET', records .. digest, record_of(now, expires, 0, rest),
  'PX', number(absolute + margin))
keep_activities(expires, now)
redis.call('ZADD', index, number(expires), digest)

local reply = {lost, 'ok', number(now), ''}
for _, each in ipairs(leaving) do
  drop(index, each[1], each[2], user, now)
  reply[#reply + 1] = each[1]
  reply[#reply + 1] = each[2]
end
keep_index(index)
emit('session.created', digest, user, now, 'data', ARGV[18])
reply[4] = tell()
reply[1] = lost
return reply
