-- Members of some parts of an index, lowest score first: for each part a list, member, score, …
--
-- KEYS parts of the index
-- ARGV 1 the lowest score, 2 how many of each part at most; but all of one score, and all with the
--      lowest; 3 the task, 4 the error ('\1': any)

local function wanted(member)
    local task, error = string.match(member, '^(.*)#%d+\t([^\t]*)\t')
    return task and (ARGV[3] == '\1' or ARGV[3] == task) and (ARGV[4] == '\1' or ARGV[4] == error)
end
local most, lowest = tonumber(ARGV[2]), tonumber(ARGV[1])
local parts = {}
for part, key in ipairs(KEYS) do
    local found, seen, counted, last, full = {}, 0, 0, nil, false
    while not full do
        local page = redis.call(
            'ZRANGEBYSCORE', key, ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', seen, 500
        )
        for entry = 1, #page, 2 do
            local score = page[entry + 1]
            if counted >= most and score ~= last then
                full = true
                break
            end
            if wanted(page[entry]) then
                found[#found + 1] = page[entry]
                found[#found + 1] = score
                last = score
                if tonumber(score) ~= lowest then counted = counted + 1 end
            end
        end
        seen = seen + #page / 2
        if #page < 1000 then full = true end
    end
    parts[part] = found
end
return parts
