-- Erase a session from everything in its shard.
--
-- KEYS 1 session, 2 waits, 3 instances, 4 events, 5 due index, 6 all, 7 waiting, 8 failed
-- ARGV 1 uid, 2 the version line that it must have ('' any)

local text = redis.pcall('GET', KEYS[1])
if type(text) == 'table' then
    if not string.find(text.err, 'WRONGTYPE', 1, true) then return text end
    text = 'S'  -- somebody has put something else there
end
if text and string.sub(text, 1, #ARGV[2]) ~= ARGV[2] then return 0 end
-- Refused now, or not at all: see commit.lua.
for key = 5, 8 do redis.call('ZREM', KEYS[key], '') end
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
for key = 6, 8 do redis.call('ZREM', KEYS[key], ARGV[1]) end
return text and 1 or 0
