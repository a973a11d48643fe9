-- From each bucket in KEYS, the next uids, one a line.
--
-- ARGV 1 'uid' (in order, after ARGV[3]) or 'score' (lowest first, 'uid\tscore'), 2 how many at most

local pages = {}
for at, key in ipairs(KEYS) do
    if ARGV[1] == 'uid' then
        local from = ARGV[3] == '' and '-' or '(' .. ARGV[3]
        local uids = redis.call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, ARGV[2])
        pages[at] = table.concat(uids, '\n')
    else
        local found = redis.call('ZRANGE', key, 0, ARGV[2] - 1, 'WITHSCORES')
        local lines = {}
        for entry = 1, #found, 2 do
            lines[#lines + 1] = found[entry] .. '\t' .. found[entry + 1]
        end
        pages[at] = table.concat(lines, '\n')
    end
end
return pages
