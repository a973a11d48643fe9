-- The groups in some parts of an index: group, how many, the lowest score or moment, group, …
--
-- KEYS parts of the index
-- ARGV 1 'waiting' (members 'group\tmoment\tuid', in that order) or 'failures'
--      ('task#number\terror\tuid', which the group is 'task\terror' of), 2 'waiting': how many groups
--      at most

local amounts, lowest, groups = {}, {}, {}
local function add(group, amount, low)
    if not amounts[group] then
        groups[#groups + 1] = group
        amounts[group] = 0
    end
    amounts[group] = amounts[group] + amount
    if not lowest[group] or tonumber(low) < tonumber(lowest[group]) then lowest[group] = low end
end

-- A page of members, and then, if all of them are of one group, at once to the one behind it.
local function waiting(key)
    local from = '-'
    while #groups < tonumber(ARGV[2]) do
        local page = redis.call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, 16)
        local first, last
        for _, member in ipairs(page) do
            local group, moment = string.match(member, '^([^\t]*)\t(%d+)\t')
            add(group, 1, moment)
            first, last = first or group, group
        end
        if #page < 16 then return end
        from = '(' .. page[16]
        if first == last then
            add(last, redis.call('ZLEXCOUNT', key, from, '(' .. last .. '\n'), lowest[last])
            from = '[' .. last .. '\n'
        end
    end
end

for _, key in ipairs(KEYS) do
    if ARGV[1] == 'waiting' then
        waiting(key)
    else
        local found = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        for entry = 1, #found, 2 do
            local task, error = string.match(found[entry], '^(.*)#%d+\t([^\t]*)\t')
            if task then add(task .. '\t' .. error, 1, found[entry + 1]) end
        end
    end
end
local reply = {}
for _, group in ipairs(groups) do
    reply[#reply + 1] = group
    reply[#reply + 1] = amounts[group]
    reply[#reply + 1] = lowest[group]
end
return reply
