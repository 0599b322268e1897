-- Stands in front of every script of the relay. Only locals: one undeclared global would poison
-- later scripts.

local function is_before(one, other)
  local ms, number = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_number = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms < other_ms or (ms == other_ms and tonumber(number) < tonumber(other_number))
end

-- The first entry that a group may still need.
local function needed_from(outbox, group)
  if group.pending > 0 then return redis.call('XPENDING', outbox, group.name)[2] end
  local ms, number = string.match(group['last-delivered-id'], '^(%d+)-(%d+)$')
  return ms .. '-' .. string.format('%.0f', tonumber(number) + 1)
end

-- The first entry that any sink may still need, nil if that is the very first: a sink that is new
-- has no group yet, and is to have what is there. The group of one that is configured no longer (or
-- not yet: another version runs elsewhere) keeps events too.
local function first_needed(outbox, sinks)
  local known, first = {}, nil
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', outbox)) do
    local group = {}
    for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
    known[group.name] = true
    local from = needed_from(outbox, group)
    if not first or is_before(from, first) then first = from end
  end
  for _, sink in ipairs(sinks) do
    if not known[sink] then return nil end
  end
  return first
end
