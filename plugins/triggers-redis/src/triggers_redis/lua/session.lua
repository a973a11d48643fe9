-- Shared by the scripts that answer with (a part of) a session; see triggers_redis/codec.py for how
-- it is stored. Kwargs and records stay opaque: nothing here parses JSON.
--
-- KEYS 1 session, 2 waits, 3 instances, 4 events, 5 due index of the shard:
--      as many of these as are needed for what is to be reported and written
-- ARGV 1 time: '' asks the server; '=<now>' injects it; else what the server's is compared with
--      2 what to report: triggers, one a line; or eight lists of lines with '\5' between them:
--        uid, triggers, instances, tasks (their unstarted instances), event ids,
--        flags: i all instances, e all events, p events that those in the third list have taken,
--        numbers of events and spans (first-last) with commas between them, or start:stop,
--        a moment and how many unstarted instances that fall due up to it are enough

-- As the server writes it ('seconds microseconds'), or as it was injected.
local function clock()
    if string.byte(ARGV[1]) == 61 then return string.sub(ARGV[1], 2) end
    local time = redis.call('TIME')
    return time[1] .. ' ' .. time[2]
end

-- Seconds, with all their digits.
local function seconds(now)
    local whole, micros = string.match(now, '^(%d+) (%d+)$')
    return whole and whole .. '.' .. string.format('%06d', micros) or now
end

-- Whether a ticket ('until owner', or '') still reserves the session. By the server's own time, for
-- an injected one may stand still.
local function is_live(ticket)
    if ticket == '' then return false end
    local time = redis.call('TIME')
    return tonumber(string.match(ticket, '^%S+')) > time[1] + time[2] / 1000000
end

local function report(now, text)
    local asked = ARGV[2]
    local simple = not string.find(asked, '\5', 1, true)
    local packed = string.byte(text) ~= 83
    if simple and (packed or asked == '') then return now .. '\n' .. text end
    local uid, triggers, names, tasks, ids, flags, numbers, moment = '', asked, '', '', '', '', '', ''
    if not simple then
        uid, triggers, names, tasks, ids, flags, numbers, moment = string.match(
            asked, '^' .. string.rep('([^\5]*)\5', 7) .. '([^\5]*)$'
        )
    end
    local lines = {now, '\n', text}

    local function due(name)
        local score = redis.call('ZSCORE', KEYS[5], name .. '\t' .. uid)
        if score then lines[#lines + 1] = '\1' .. name .. '\t' .. score .. '\n' end
    end
    if text == '' then return now .. '\n' end
    for name in string.gmatch(names, '[^\n]+') do due(name) end
    local every = string.find(flags, 'i', 1, true)
    if packed then
        if every then
            for name in string.gmatch(text, '\n\t([^\t]+)\tr') do due(name) end
        end
        return table.concat(lines)
    end

    local function event(number, record)
        if record then lines[#lines + 1] = '\2' .. number .. '\t' .. record .. '\n' end
    end
    local function events(text)
        for first, last in string.gmatch(text, '(%d+)%-?(%d*)') do
            if last == '' then
                event(first, redis.call('LINDEX', KEYS[4], first))
            else
                for at, record in ipairs(redis.call('LRANGE', KEYS[4], first, last)) do
                    event(first + at - 1, record)
                end
            end
        end
    end
    local function instance(name, stored)
        lines[#lines + 1] = '\t' .. name .. '\t' .. stored .. '\n'
    end

    local wanted, seen = {}, {}
    -- Of the first moments that together hold enough, all; then the one that follows.
    local function due_up_to(latest, enough)
        local from, to, at, found, last = '[\1', '(\1' .. latest .. '\n', 0, 0, ''
        while true do
            local members = redis.call('ZRANGEBYLEX', KEYS[2], from, to, 'LIMIT', at, 1000)
            if #members == 0 then break end
            local due = {}
            for n, member in ipairs(members) do due[n] = string.match(member, '\t(.*)') end
            local records = redis.call('HMGET', KEYS[3], unpack(due))
            for n, name in ipairs(due) do
                local digits = string.match(members[n], '^\1(%d+)')
                if found >= enough and digits ~= last then return digits end
                -- An older process leaves the entries of instances that it has started.
                if records[n] and string.byte(records[n]) == 117 then
                    lines[#lines + 1] = '\3' .. digits .. '\t' .. name .. '\n'
                    if not seen[name] then instance(name, records[n]) end
                    seen[name], found, last = true, found + 1, digits
                end
            end
            at = at + #members
        end
        local following = redis.call(
            'ZRANGEBYLEX', KEYS[2], '[\1' .. latest .. '\n', '(\2', 'LIMIT', 0, 1
        )
        return following[1] and string.match(following[1], '^\1(%d+)')
    end
    local latest, enough = string.match(moment, '^(%d+) (%d+)$')
    if latest then
        local following = due_up_to(latest, tonumber(enough))
        if following then lines[#lines + 1] = '\4' .. following .. '\n' end
    end
    for trigger in string.gmatch(triggers, '[^\n]+') do
        local from, to = '[' .. trigger .. '\t', '(' .. trigger .. '\n'
        for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], from, to)) do
            local name = string.sub(member, #trigger + 2)
            if not seen[name] then
                seen[name] = true
                wanted[#wanted + 1] = name
            end
        end
    end
    if simple and #wanted == 0 then return now .. '\n' .. text end
    for name in string.gmatch(names, '[^\n]+') do
        if not seen[name] then
            seen[name] = true
            wanted[#wanted + 1] = name
        end
    end

    local payloads = string.find(flags, 'p', 1, true)
    for first = 1, #wanted, 1000 do
        local last = math.min(first + 999, #wanted)
        for at, stored in ipairs(redis.call('HMGET', KEYS[3], unpack(wanted, first, last))) do
            if stored then
                instance(wanted[first + at - 1], stored)
                if payloads then events(string.match(stored, '^[rs]%d+ ([%d,-]*)') or '') end
            end
        end
    end
    if every or tasks ~= '' then
        tasks = '\n' .. tasks .. '\n'
        local all = redis.call('HGETALL', KEYS[3])
        for at = 1, #all, 2 do
            local name, stored = all[at], all[at + 1]
            if string.byte(name) ~= 1 and not seen[name] then
                local task = '\n' .. (string.match(name, '^(.*)#%d+$') or '') .. '\n'
                local unstarted = string.byte(stored) == 117
                if every or unstarted and string.find(tasks, task, 1, true) then
                    instance(name, stored)
                end
                if every and string.byte(stored) == 114 then due(name) end
            end
        end
    end
    for id in string.gmatch(ids, '[^\n]+') do
        -- A generated id tells the number; whoever asked compares the rest.
        local number = string.match(id, '^~(%d+)') or redis.call('HGET', KEYS[3], '\1' .. id)
        if number then event(number, redis.call('LINDEX', KEYS[4], number)) end
    end
    local start, stop = string.match(numbers, '^(%d+):(-?%d+)$')
    if string.find(flags, 'e', 1, true) then start, stop = 0, -1 end
    if start then
        for at, record in ipairs(redis.call('LRANGE', KEYS[4], start, stop)) do
            event(start + at - 1, record)
        end
    else
        events(numbers)
    end
    return table.concat(lines)
end
