-- The groups in some parts of an index: group, how many, the lowest score, group, …
--
-- KEYS parts of the index
-- ARGV 1 'waiting' (members 'uid' or 'uid\tgroup') or 'failures' ('task#number\terror\tuid', which
--      the group is 'task\terror' of)

local amounts, lowest, groups = {}, {}, {}
for _, key in ipairs(KEYS) do
    local found = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for entry = 1, #found, 2 do
        local group
        if ARGV[1] == 'waiting' then
            group = string.match(found[entry], '\t(.*)$') or ''
        else
            local task, error = string.match(found[entry], '^(.*)#%d+\t([^\t]*)\t')
            group = task and task .. '\t' .. error
        end
        if group then
            if not amounts[group] then
                groups[#groups + 1] = group
                amounts[group] = 0
            end
            amounts[group] = amounts[group] + 1
            local low = lowest[group]
            if not low or tonumber(found[entry + 1]) < tonumber(low) then
                lowest[group] = found[entry + 1]
            end
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
