-- The earliest entries of a shard's due index: now, then member, score, …
--
-- KEYS 1 due index    ARGV 1 now ('' asks the server), 2 how many at most, 3 'overdue' or 'all'

local now = ARGV[1]
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%s.%06d', time[1], time[2])
end
local last = ARGV[3] == 'all' and '+inf' or now
local found = redis.call(
    'ZRANGEBYSCORE', KEYS[1], '-inf', last, 'WITHSCORES', 'LIMIT', 0, ARGV[2]
)
table.insert(found, 1, now)
return found
