-- Ends a batch of a user's sessions that had begun when the first batch ran.
-- ARGV: 9 user, 10 digest of the user, 11 cutoff ms (0: now), 12 offset, 13 batch,
-- 14 digest to keep ('': none). Returns as end_chosen.
-- During the grace of a renewal the session to keep has two keys.
local kept = ARGV[14] ~= '' and parse(fetch(ARGV[14])) or nil
return end_chosen(indexes .. ARGV[10], ARGV[9], tonumber(ARGV[11]), tonumber(ARGV[12]),
  tonumber(ARGV[13]), function(digest, fields)
    return digest ~= ARGV[14] and not (kept and kept.family == fields.family)
  end)
