-- Ends the sessions that are over by themselves, so that this too is an event, also for users who
-- never come back. A session that was touched meanwhile is looked at again when it may be over.
-- ARGV: 9 batch. Returns {lost, how many were looked at, end state, end state, ...}.
local now = now_ms()
local members = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', number(now), 'LIMIT', 0, ARGV[9])
local reply = {0, #members}
for _, member in ipairs(members) do
  local digest, user_digest = string.match(member, '^(%x+):(%x+)$')
  local index = indexes .. user_digest
  local over = natural_end(digest, redis.call('ZSCORE', index, digest) or now, now)
  if over then
    local fields = parse(fetch(digest))
    drop(index, digest, over, fields and fields.u or '', now)
    reply[#reply + 1] = over
  else
    set_due(index, digest, now + redis.call('PTTL', activities .. digest) + 1)
  end
end
reply[1] = lost
return reply
