-- Notes what a user has answered about an alert, for good, with its event.
-- ARGV: 9 digest of the session, 10 user, 11 key of the answer, 12 how long it is kept, 13 data.
redis.call('SET', ARGV[11], 'answered', 'PX', ARGV[12])
emit('alert.answered', ARGV[9], ARGV[10], now_ms(), 'data', ARGV[13])
return {lost, 'ok'}
