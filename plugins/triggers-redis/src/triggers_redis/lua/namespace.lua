-- Settle what a namespace is, once: its form and its number of shards.
--
-- KEYS 1 the namespace's hash    ARGV 1 schema, 2 shards

redis.call('HSETNX', KEYS[1], 'schema', ARGV[1])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
return redis.call('HMGET', KEYS[1], 'schema', 'shards')
