-- Ends a session under whatever keys it has by now: all share the digest of its first.
-- ARGV: 9 user, 10 digest of the user, 11 cutoff ms (0: now), 12 offset, 13 batch, 14 the digest of
-- its first, short as records have it. Returns as end_chosen.
return end_chosen(indexes .. ARGV[10], ARGV[9], tonumber(ARGV[11]), tonumber(ARGV[12]),
  tonumber(ARGV[13]), function(_, fields) return fields.family == ARGV[14] end)
