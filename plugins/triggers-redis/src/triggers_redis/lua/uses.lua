-- Which sessions have which configuration: members 'configuration\tuid', in that order.
--
-- KEYS parts of the index
-- ARGV 1 'count', then configurations: how many members each has in all of these parts
--      1 'uids', 2 configuration, 3 after which uid ('' none), 4 how many at most: for each part, uids,
--      one a line

if ARGV[1] == 'count' then
    local amounts = {}
    for at = 2, #ARGV do
        local amount = 0
        for _, key in ipairs(KEYS) do
            amount = amount + redis.call(
                'ZLEXCOUNT', key, '[' .. ARGV[at] .. '\t', '(' .. ARGV[at] .. '\n'
            )
        end
        amounts[at - 1] = amount
    end
    return amounts
end
local from, to = '(' .. ARGV[2] .. '\t' .. ARGV[3], '(' .. ARGV[2] .. '\n'
local pages = {}
for at, key in ipairs(KEYS) do
    local uids = redis.call('ZRANGEBYLEX', key, from, to, 'LIMIT', 0, ARGV[4])
    for each, member in ipairs(uids) do uids[each] = string.sub(member, #ARGV[2] + 2) end
    pages[at] = table.concat(uids, '\n')
end
return pages
