-- Erase a session from everything in its shard.
--
-- KEYS 1 session, 2 waits, 3 instances, 4 events, 5 due index, 6 all, 7 failed, 8 waiting,
--      9 failures, 10 uses of configurations
-- ARGV 1 uid, 2 the version line that it must have ('' any)

local text = redis.pcall('GET', KEYS[1])
if type(text) == 'table' then
    if not string.find(text.err, 'WRONGTYPE', 1, true) then return text end
    text = 'S'  -- somebody has put something else there
end
if text and string.sub(text, 1, #ARGV[2]) ~= ARGV[2] then return 0 end
-- Refused now, or not at all: see commit.lua.
for key = 5, 10 do redis.call('ZREM', KEYS[key], '') end
redis.call('UNLINK', KEYS[1] .. '\1')
local due = {}
local function forget(name)
    due[#due + 1] = name .. '\t' .. ARGV[1]
    if #due == 1000 then
        redis.call('ZREM', KEYS[5], unpack(due))
        due = {}
    end
end
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
if #due > 0 then redis.call('ZREM', KEYS[5], unpack(due)) end
redis.call('UNLINK', KEYS[1], KEYS[4], KEYS[3], KEYS[2])
for key = 6, 7 do redis.call('ZREM', KEYS[key], ARGV[1]) end
-- Uses 'configuration\tuid'.
for _, member in ipairs(redis.call('ZRANGE', KEYS[10], 0, -1)) do
    if string.match(member, '\t(.*)$') == ARGV[1] then redis.call('ZREM', KEYS[10], member) end
end
-- Waiting 'uid' or 'uid\tgroup', failures 'instance\terror\tuid'.
for _, member in ipairs(redis.call('ZRANGE', KEYS[8], 0, -1)) do
    if string.match(member, '^[^\t]*') == ARGV[1] then redis.call('ZREM', KEYS[8], member) end
end
for _, member in ipairs(redis.call('ZRANGE', KEYS[9], 0, -1)) do
    if string.match(member, '[^\t]*$') == ARGV[1] then redis.call('ZREM', KEYS[9], member) end
end
return text and 1 or 0
