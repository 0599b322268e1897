-- Adds a session, and in the same step ends those that must go for it: over by themselves,
-- on the same device, beyond the limit (least recently active first).
-- ARGV: 9 digest, 10 rest of the record, 11 idle ms, 12 absolute ms, 13 limit (0: none),
-- 14 'evict' or 'deny', 15 device id whose sessions are replaced ('': none), 16 user,
-- 17 digest of the user, 18 facts for the event.
-- Returns {lost, 'ok', created, digest, why, digest, why, ...} or {0, 'limit'}.
local digest, rest, idle, absolute = ARGV[9], ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])
local limit, on_limit, device, user = tonumber(ARGV[13]), ARGV[14], ARGV[15], ARGV[16]
local index = indexes .. ARGV[17]
local now = now_ms()
local expires = now + absolute

-- The old key of a renewal in its grace is no session of its own: it does not count, and it goes
-- with the session that it belongs to (`f`).
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
  elseif fields and fields.dv[1] == device then
    leaving[#leaving + 1] = {other, 'replaced'}
  elseif fields and fields.g then
    graces[#graces + 1] = {other, fields.f}
  else
    local seen = tonumber(redis.call('GET', activities .. other)) or 0
    live[#live + 1] = {other, seen, fields and fields.f}
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

-- The new one first: out of memory, this fails before anything has changed.
local record = '{"c":' .. number(now) .. ',"x":' .. number(expires) .. ',' .. rest
redis.call('SET', records .. digest, record, 'PX', number(absolute + margin))
redis.call('SET', activities .. digest, number(now), 'PX', number(math.min(idle, absolute)))
redis.call('ZADD', index, number(expires), digest)
set_due(index, digest, now + math.min(idle, absolute))

local reply = {lost, 'ok', number(now)}
for _, each in ipairs(leaving) do
  drop(index, each[1], each[2], user, now)
  reply[#reply + 1] = each[1]
  reply[#reply + 1] = each[2]
end
keep_index(index)
emit('session.created', digest, user, now, 'data', ARGV[18])
reply[1] = lost
return reply
