-- Members 'prefix\trest' of some parts of an index, in the order of the rest.
--
-- KEYS parts of the index
-- ARGV 1 'page', 2 prefix, 3 after which rest ('' none), 4 how many at most: for each part, rests, one
--      a line
--      1 'first', then prefixes: for each, a rest in any part ('' none)

if ARGV[1] == 'first' then
    local found = {}
    for at = 2, #ARGV do
        local from, to = '[' .. ARGV[at] .. '\t', '(' .. ARGV[at] .. '\n'
        found[at - 1] = ''
        for _, key in ipairs(KEYS) do
            local member = redis.call('ZRANGEBYLEX', key, from, to, 'LIMIT', 0, 1)[1]
            if member then
                found[at - 1] = string.sub(member, #ARGV[at] + 2)
                break
            end
        end
    end
    return found
end
local from, to = '(' .. ARGV[2] .. '\t' .. ARGV[3], '(' .. ARGV[2] .. '\n'
local pages = {}
for at, key in ipairs(KEYS) do
    local rests = redis.call('ZRANGEBYLEX', key, from, to, 'LIMIT', 0, ARGV[4])
    for each, member in ipairs(rests) do rests[each] = string.sub(member, #ARGV[2] + 2) end
    pages[at] = table.concat(rests, '\n')
end
return pages
