-- Erase configurations that no session has.
--
-- KEYS 1 index of the shard's configurations (score: when a session got it last, in seconds),
--      2 how many sessions have each, from 3 on configurations
-- ARGV 1 only those that no session has got since, 2 how many characters of their hashes KEYS[2]
--      holds, from 3 on their hashes

for key = 1, 2 do redis.call('ZREM', KEYS[key], '') end
redis.call('UNLINK', KEYS[1] .. '\1')
local erased = 0
for at = 3, #KEYS do
    local got = redis.call('ZSCORE', KEYS[1], ARGV[at])
    if got and tonumber(got) < tonumber(ARGV[1]) then
        redis.call('UNLINK', KEYS[at])
        redis.call('ZREM', KEYS[1], ARGV[at])
        redis.call('ZREM', KEYS[2], string.sub(ARGV[at], 1, ARGV[2]))
        erased = erased + 1
    end
end
return erased
