-- Tells how full a partition's outbox is, and for how long its events have been waiting.
-- KEYS: 1 outbox, 2 dead letters, 3 count of dropped events. ARGV: names of the sinks.
-- Returns {events, dead letters, dropped, groups of no sink, then for each sink how long its oldest
-- event has been waiting, ms}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local groups, others = {}, 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
    groups[group.name] = group
    others = others + 1
  end
end

local function oldest(group)
  if group and group.pending > 0 then return redis.call('XPENDING', KEYS[1], group.name)[2] end
  local from = group and '(' .. group['last-delivered-id'] or '-'
  local entry = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
  return entry and entry[1]
end

local waiting = {}
for _, sink in ipairs(ARGV) do
  if groups[sink] then others = others - 1 end
  local id = oldest(groups[sink])
  waiting[#waiting + 1] = id and math.max(0, now - tonumber(string.match(id, '^%d+'))) or 0
end
return {redis.call('XLEN', KEYS[1]), redis.call('XLEN', KEYS[2]),
  tonumber(redis.call('GET', KEYS[3]) or 0), others, unpack(waiting)}
