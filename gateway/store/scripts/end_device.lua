-- Ends a batch of a user's sessions on one device that had begun when the first batch ran.
-- ARGV: 9 user, 10 digest of the user, 11 cutoff ms (0: now), 12 offset, 13 batch, 14 device id.
-- Returns as end_chosen.
return end_chosen(indexes .. ARGV[10], ARGV[9], tonumber(ARGV[11]), tonumber(ARGV[12]),
  tonumber(ARGV[13]), function(_, fields) return fields.device_id == ARGV[14] end)
