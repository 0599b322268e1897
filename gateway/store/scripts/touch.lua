-- Notes activity, at most once per interval in the whole cluster, and never creates: what has
-- ended stays ended. The record outlives the activity, so its TTL is extended rarely.
-- ARGV: 9 digest, 10 interval ms. Returns 1 if it wrote, else 0.
local record, activity = records .. ARGV[9], activities .. ARGV[9]
local now = now_ms()
local seen = tonumber(redis.call('GET', activity) or nil)
local fields = parse(redis.call('GET', record))
if not seen or not fields or now - seen < tonumber(ARGV[10]) then return 0 end
local left = fields.x - now
if left <= 0 then return 0 end
local rest = math.min(fields.i, left)
redis.call('SET', activity, number(now), 'XX', 'PX', number(rest))
if redis.call('PTTL', record) < rest + margin then
  redis.call('PEXPIRE', record, number(math.min(2 * fields.i, left) + margin))
end
return 1
