-- Notes activity, at most once per interval in the whole cluster, and never creates: what has
-- ended stays ended. Nobody's memory is invalidated: the record itself is not written.
-- ARGV: 9 digest, 10 interval ms. Returns {when it was last seen, ms, 1 if this wrote it} or {} if it is over.
local digest, now = ARGV[9], now_ms()
local fields, rested = parse(redis.call('GET', records .. digest)), rests_until(digest, now)
if not fields or not rested or fields.expires_ms <= now then return {} end
local seen = rested - fields.idle_ms
if now - seen < tonumber(ARGV[10]) then return {number(seen), 0} end
note_activity(digest, now, fields.idle_ms, fields.expires_ms)
return {number(now), 1}
