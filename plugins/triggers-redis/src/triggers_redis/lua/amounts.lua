-- The configurations of a shard, and how many sessions have each.
--
-- KEYS 1 index of the shard's configurations, 2 amounts, by short addresses
-- Answers with the addresses, and with short address, amount, …

return {redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')}
