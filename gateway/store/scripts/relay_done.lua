-- Notes that a sink has events, then removes what every sink has.
-- KEYS: 1 outbox, 2 holder. ARGV: 1 sink, 2 relay, 3 takeover ms (0: give the partition back),
-- 4 '1' to remove nothing, 5 how many sinks there are, then their names, then the ids.
-- Returns 1, or 0 if another relay has the partition by now: then nothing has changed.
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[2])
else
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
local sinks = tonumber(ARGV[5])
if #ARGV == 5 + sinks then return 1 end
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 6 + sinks))
if ARGV[4] == '1' then return 1 end

local function parts(id)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end

local function is_before(one, other)
  local ms, number = parts(one)
  local other_ms, other_number = parts(other)
  return ms < other_ms or (ms == other_ms and number < other_number)
end

-- The first entry that a group may still need.
local function needed_from(group)
  if group.pending > 0 then return redis.call('XPENDING', KEYS[1], group.name)[2] end
  local ms, number = string.match(group['last-delivered-id'], '^(%d+)-(%d+)$')
  return ms .. '-' .. string.format('%.0f', tonumber(number) + 1)
end

-- A sink that is new has no group yet, and is to have what is there. The group of one that is
-- configured no longer (or not yet: another version runs elsewhere) keeps events too.
local known, first = {}, nil
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  known[group.name] = true
  local from = needed_from(group)
  if not first or is_before(from, first) then first = from end
end
for i = 6, 5 + sinks do
  if not known[ARGV[i]] then return 1 end
end
redis.call('XTRIM', KEYS[1], 'MINID', first)
return 1
