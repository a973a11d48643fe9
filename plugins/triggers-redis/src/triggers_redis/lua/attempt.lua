-- Shared by the scripts that change one attempt without a decision before: what they check is what
-- the command's own decision checks, on the plain text beside the records.

-- The version line of a session, in parts; nothing when there is none.
local function parse_version_line(text)
    return string.match(
        text, '^(%u)(%d+)\t([^\t]*)\t(%d+)\t(%d+)\t([^\t]*)\t([^\t]*)\t([^\n]*)\n'
    )
end

-- Whether a process that knows `plugins` and `schema` may change the session.
local function is_understood(schema, requires, own_schema, plugins)
    if tonumber(schema) > tonumber(own_schema) then return false end
    for plugin in string.gmatch(requires, '[^\3]+') do
        if not string.find(plugins, '\3' .. plugin .. '\3', 1, true) then return false end
    end
    return true
end

-- What is stored of an instance, and where it begins and ends in the text of a packed session.
local function find_instance(text, name)
    if string.byte(text) == 83 then return redis.call('HGET', KEYS[3], name) end
    local _, before = string.find(text, '\n\t' .. name .. '\t', 1, true)
    if not before then return false end
    local stop = string.find(text, '\n', before + 1, true)
    return string.sub(text, before + 1, stop - 1), before + 1, stop - 1
end
