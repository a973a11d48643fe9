-- Erase a session from everything in its shard.
--
-- KEYS 1 session, 2 waits, 3 instances, 4 events, 5 due index, 6 coming, 7 all, 8 failed, 9 waiting,
--      10 failures, 11 groups, 12 uses of configurations, 13 amounts of those, 14 ids of events
-- ARGV 1 uid, 2 the version line that it must have ('' any, '-' there must be none), 3 and further
--      names of instances that may be due, of a session that is there no more

local text = redis.pcall('GET', KEYS[1])
if type(text) == 'table' then
    if not string.find(text.err, 'WRONGTYPE', 1, true) then return text end
    text = 'S'  -- somebody has put something else there
end
if text and string.sub(text, 1, #ARGV[2]) ~= ARGV[2] then return 0 end
-- Refused now, or not at all: see commit.lua.
for key = 5, 14 do redis.call('ZREM', KEYS[key], '') end
redis.call('ZADD', KEYS[13], 'XX', 0, '')  -- behind a write: else a full server would refuse it
redis.call('UNLINK', KEYS[1] .. '\1')
local due = {}
local function forget(name)
    due[#due + 1] = name .. '\t' .. ARGV[1]
    if #due == 1000 then
        for key = 5, 6 do redis.call('ZREM', KEYS[key], unpack(due)) end
        due = {}
    end
end
for at = 3, #ARGV do forget(ARGV[at]) end
if text and string.byte(text) ~= 83 then
    for name in string.gmatch(text, '\n\t([^\t]+)\t') do forget(name) end
else
    local names = redis.pcall('HKEYS', KEYS[3])
    if names.err then
        if not string.find(names.err, 'WRONGTYPE', 1, true) then return names end
        names = {}
    end
    for _, name in ipairs(names) do forget(name) end
end
if #due > 0 then
    for key = 5, 6 do redis.call('ZREM', KEYS[key], unpack(due)) end
end
redis.call('UNLINK', KEYS[1], KEYS[4], KEYS[3], KEYS[2])
for key = 7, 9 do redis.call('ZREM', KEYS[key], ARGV[1]) end
-- What is listed by something else, in one bucket: failures 'instance\terror\tuid', groups
-- 'group\tmoment\tuid', uses 'configuration\tuid', ids 'id\tuid\tnumber'.
local function remove(key, pattern)
    for _, member in ipairs(redis.call('ZRANGE', KEYS[key], 0, -1)) do
        local before, uid = string.match(member, pattern)
        if uid == ARGV[1] then
            redis.call('ZREM', KEYS[key], member)
            if key == 12 and tonumber(redis.call('ZADD', KEYS[13], 'INCR', -1, before)) <= 0 then
                redis.call('ZREM', KEYS[13], before)
            end
        end
    end
end
for key = 10, 12 do remove(key, '^(.*)\t([^\t]*)$') end
remove(14, '^([^\t]*)\t([^\t]*)\t')
return text and 1 or 0
