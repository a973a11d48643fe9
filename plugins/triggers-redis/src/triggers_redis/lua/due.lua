-- Entries of a shard's due index: now, then member, score, … ; or now, '\1' and an error.
--
-- KEYS 1 due index; with 'coming', the list of what comes by itself
-- ARGV 1 now ('' asks the server), 2 how many at most
--      3 'overdue', 'coming' or 'all', earliest first; or seconds: those more than so far ahead, farthest first
--      4 with 'overdue': also those that come within so many seconds; with 'coming', only those

local now = ARGV[1]
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%s.%06d', time[1], time[2])
end
local found
if ARGV[3] == 'all' or ARGV[3] == 'overdue' or ARGV[3] == 'coming' then
    local first, last = '-inf', now
    if ARGV[3] == 'coming' then first = '(' .. now end
    if ARGV[3] == 'all' then last = '+inf' end
    if ARGV[4] then last = string.format('%.17g', now + ARGV[4]) end
    found = redis.pcall(
        'ZRANGEBYSCORE', KEYS[1], first, last, 'WITHSCORES', 'LIMIT', 0, ARGV[2]
    )
else
    local after = '(' .. string.format('%.17g', now + ARGV[3])
    found = redis.pcall(
        'ZRANGE', KEYS[1], '+inf', after, 'BYSCORE', 'REV', 'LIMIT', 0, ARGV[2], 'WITHSCORES'
    )
end
if found.err then return {now, '\1', found.err} end
table.insert(found, 1, now)
return found
