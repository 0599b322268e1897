-- Notes activity, at most once per interval in the whole cluster, and never creates: what has
-- ended stays ended. Nobody's memory is invalidated: the record itself is not written.
-- ARGV: 9 digest, 10 interval ms. Returns {when it was last seen, ms, 1 if this wrote it} or {} if it is over.
local activity = activities .. ARGV[9]
local seen = tonumber(redis.call('GET', activity) or nil)
local fields = parse(redis.call('GET', records .. ARGV[9]))
if not seen or not fields then return {} end
local now = now_ms()
local left = fields.x - now
if left <= 0 then return {} end
if now - seen < tonumber(ARGV[10]) then return {number(seen), 0} end
redis.call('SET', activity, number(now), 'XX', 'PX', number(math.min(fields.i, left)))
return {number(now), 1}
