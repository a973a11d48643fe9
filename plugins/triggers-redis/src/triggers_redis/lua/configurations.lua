-- Erase configurations that no session has.
--
-- KEYS 1 index of the shard's configurations (score: when a session got it last, in seconds),
--      from 2 on configurations
-- ARGV 1 only those that no session has got since, from 2 on their hashes

redis.call('ZREM', KEYS[1], '')
redis.call('UNLINK', KEYS[1] .. '\1')
local erased = 0
for at = 2, #KEYS do
    local got = redis.call('ZSCORE', KEYS[1], ARGV[at])
    if got and tonumber(got) < tonumber(ARGV[1]) then
        redis.call('UNLINK', KEYS[at])
        redis.call('ZREM', KEYS[1], ARGV[at])
        erased = erased + 1
    end
end
return erased
