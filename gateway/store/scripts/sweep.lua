-- Ends the sessions that are over by themselves, so that this too is an event, also for users who
-- never come back.
-- ARGV: 9 batch. Returns {lost, how many were looked at, end state, end state, ...}.
local now = now_ms()
local members = redis.call('ZRANGEBYSCORE', activities, '-inf', number(now), 'LIMIT', 0, ARGV[9])
local reply = {0, #members}
for _, member in ipairs(members) do
  local digest = string.match(member, '^(.-)!?$')
  -- Both of a session's members may be due: then the first has ended it.
  if redis.call('ZSCORE', activities, member) then
    local fields = parse(fetch(digest))
    local index = indexes .. (fields and fields.user_digest or '')
    local over = fields and fields.expires_ms > now and 'idle' or 'expired'
    drop(index, digest, over, fields and fields.user or '', now)
    reply[#reply + 1] = over
  end
end
reply[1] = lost
return reply
