-- Stands in front of every script. Only locals: one undeclared global would poison later scripts.
-- KEYS[1] outbox, KEYS[2] count of dropped events, KEYS[3] activities, KEYS[4] a fence, or none.
-- ARGV[1] prefix of records; [2] how long records and indexes outlive their sessions, ms; [3] prefix
-- of indexes; [4] partition; [5] most events kept; [6..8] who asks, why, request id. A script's own
-- arguments begin at ARGV[9].
local records, margin, indexes, partition = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local activities = KEYS[3]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function number(value)
  return string.format('%.0f', value)
end

-- What scripts read of a record: the first of `Fields` in records.py, each with its type here.
local version, fields_read = 3, {
  {'created_ms', 'number'}, {'expires_ms', 'number'}, {'authenticated_ms', 'number'},
  {'version', 'number'}, {'idle_ms', 'number'}, {'digest', 'string'}, {'user_digest', 'string'},
  {'user', 'string'}, {'device_id', 'string'}, {'rare', 'table'},
}

-- A record's fields by name, or nil if it is missing or not a record. All keys of one session share
-- its `family`, the digest of its first.
local function parse(record)
  if not record then return nil end
  local ok, values = pcall(cjson.decode, record)
  if not ok or type(values) ~= 'table' then return nil end
  local fields = {}
  for place, field in ipairs(fields_read) do
    if type(values[place]) ~= field[2] then return nil end
    fields[field[1]] = values[place]
  end
  if fields.version ~= version then return nil end
  fields.renewed, fields.in_grace = fields.rare.family ~= nil, fields.rare.in_grace
  fields.family = fields.rare.family or fields.digest
  return fields
end

-- A record: its instants in front of the rest, which the gateway has made.
local function record_of(created, expires, authenticated, rest)
  return '[' .. number(created) .. ',' .. number(expires) .. ',' .. number(authenticated) .. ','
    .. rest
end

-- A session's record, false if there is none. What is there but no string reads as '': not a
-- record, and no reason for the end of a user's other sessions to fail.
local function fetch(digest)
  local record = redis.pcall('GET', records .. digest)
  if type(record) == 'table' then return '' end
  return record
end

-- The outbox is bounded: what no longer fits is counted, so that no loss is silent. An event
-- that cannot be written (out of memory) must not undo a revocation: it is reported instead.
local lost = 0
local function emit(kind, digest, user, now, ...)
  local most = tonumber(ARGV[5])
  local length = redis.pcall('XLEN', KEYS[1])
  if type(length) == 'number' and length >= most then
    local dropped = redis.call('XTRIM', KEYS[1], 'MAXLEN', most - 1)
    redis.pcall('INCRBY', KEYS[2], dropped)
  end
  local added = redis.pcall('XADD', KEYS[1], '*', 'type', kind, 'id', partition .. digest,
    'user', user, 'at', number(now), 'by', ARGV[6], 'reason', ARGV[7], 'request', ARGV[8], ...)
  if type(added) == 'table' and added.err then lost = lost + 1 end
end

-- Writes an alert's event, and has it pushed to the lists that others read.
local function raise(alert, digest, user, now, queue)
  emit(alert.type, digest, user, now, 'data', alert.data)
  local waiting = redis.pcall('RPUSH', queue, alert.queued)
  if type(waiting) == 'table' then
    lost = lost + 1
  elseif waiting > tonumber(ARGV[5]) then
    redis.call('LPOP', queue)
    redis.pcall('INCR', KEYS[2])
  end
end

-- Writes the fence behind a change, last: a replica that sees it invalidated has seen the change.
-- One that cannot be written undoes nothing; nobody confirms it, and a lease is waited for.
local function fence()
  if KEYS[4] then redis.pcall('SET', KEYS[4], '', 'PX', 10000) end
end

-- The activities hold each session's digest with when it will have rested too long: what is added
-- to its last activity is its idle time. Where the absolute end comes first, they hold that too,
-- as `<digest>!`: the sweep needs it in this order.
local function note_activity(digest, seen, idle, expires)
  redis.call('ZADD', activities, number(seen + idle), digest)
  if seen + idle > expires then redis.call('ZADD', activities, number(expires), digest .. '!') end
end

-- They outlive the last absolute end by a week: so long may all gateways be away without the
-- natural end of a session going by without its event.
local function keep_activities(expires, now)
  local left = expires + 604800000 - now
  if redis.call('PTTL', activities) < left then
    redis.call('PEXPIRE', activities, number(left))
  end
end

-- Until when a session may rest, or nil if it has rested too long or its absolute end has come.
local function rests_until(digest, now)
  local rested = tonumber(redis.pcall('ZSCORE', activities, digest) or nil)
  local expires = tonumber(redis.pcall('ZSCORE', activities, digest .. '!') or nil)
  if not rested or rested <= now or (expires and expires <= now) then return nil end
  return rested
end

-- Tells whether there was any, or may have been: where there is no list at all but something else,
-- sessions must end all the same.
local function forget_activity(digest)
  local removed = redis.pcall('ZREM', activities, digest, digest .. '!')
  return removed ~= 0
end

-- Ends one session: first the state, then the event. The sweep may have told of a natural end
-- before, of a session whose record was gone, so that it could not find the index.
local function drop(index, digest, why, user, now)
  redis.call('DEL', records .. digest)
  redis.call('ZREM', index, digest)
  local untold = forget_activity(digest)
  if untold or (why ~= 'expired' and why ~= 'idle') then
    emit('session.ended', digest, user, now, 'why', why)
  end
end

-- Why the session in the index is over by itself, or nil while it lives.
local function natural_end(digest, score, now)
  if tonumber(score) <= now then return 'expired' end
  if redis.call('EXISTS', records .. digest) == 1 and rests_until(digest, now) then return nil end
  return 'idle'
end

-- The index lives a little longer than its last session may.
local function keep_index(index)
  local last = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
  if last[2] then redis.call('PEXPIREAT', index, number(tonumber(last[2]) + margin)) end
end

-- Ends up to `batch` of the user's sessions that `chosen(digest, fields)` names and that began
-- no later than `cutoff`, from `offset` on. For the first batch (cutoff 0) that is every one, also
-- one that bears a later time than now: after a failover the clock may be behind.
-- Returns lost events, the next offset (-1: done), the cutoff, how many members the index had
-- before and after, then the digests.
local function end_chosen(index, user, cutoff, offset, batch, chosen)
  local now = now_ms()
  local first = cutoff == 0
  if first then cutoff = now end
  local before = redis.call('ZCARD', index)
  local members = redis.call('ZRANGE', index, offset, offset + batch - 1, 'WITHSCORES')
  local ended, kept = {}, 0
  for i = 1, #members, 2 do
    local digest = members[i]
    local over = natural_end(digest, members[i + 1], now)
    local fields = parse(fetch(digest))
    if over then
      drop(index, digest, over, user, now)
    elseif fields == nil or ((first or fields.created_ms <= cutoff) and chosen(digest, fields)) then
      drop(index, digest, 'revoked', user, now)
      ended[#ended + 1] = digest
    else
      kept = kept + 1
    end
  end
  local next_offset = offset + kept
  if #members < 2 * batch then next_offset = -1 end
  fence()
  return {lost, next_offset, number(cutoff), before, redis.call('ZCARD', index), unpack(ended)}
end
