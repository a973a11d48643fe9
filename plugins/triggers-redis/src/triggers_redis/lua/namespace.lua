-- Settle what a namespace is, once: its form and its number of shards. Then name the commands that
-- this user may not use, of all that the scripts need.
--
-- KEYS 1 the namespace's hash    ARGV 1 schema, 2 shards

redis.call('HSETNX', KEYS[1], 'schema', ARGV[1])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
local answer = redis.call('HMGET', KEYS[1], 'schema', 'shards')
-- Each in a form that changes nothing: most are not for a hash, some name a key that is not there,
-- some lack an argument. Whether the user may is what Redis looks at before all that.
local none = KEYS[1] .. '\1'
for _, try in ipairs({
    {'GET', none}, {'SET', KEYS[1], '', 'NX'}, {'EXISTS', none}, {'TIME'},
    {'ZADD', none, 'XX', 0, ''}, {'ZREM', none, ''}, {'ZSCORE', none, ''},
    {'ZRANGEBYLEX', none, '-', '+'}, {'ZLEXCOUNT', none, '-', '+'},
    {'ZRANGE', none, 0, 0}, {'ZRANGEBYSCORE', none, 0, 0},
    {'HGET', none, ''}, {'HSET', none, '', '', ''}, {'HGETALL', none}, {'HKEYS', none},
    {'RPUSH', KEYS[1], ''}, {'LINDEX', none, 0}, {'LRANGE', none, 0, 0},
    {'PEXPIRE', none, 1}, {'PERSIST', none}, {'UNLINK', none}, {'DEL', none},
}) do
    local said = redis.pcall(unpack(try))
    local problem = type(said) == 'table' and said.err
    if problem and (
        string.find(problem, 'permission', 1, true) or string.find(problem, "can't run this", 1, true)
        or string.find(problem, 'ACL', 1, true)
    ) then
        answer[#answer + 1] = try[1]
    end
end
return answer
