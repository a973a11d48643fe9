-- The first two lines (version line, header) of every session in KEYS; '' for one that is gone,
-- '\1' and the error for one that is no text.

local headers = {}
for at, key in ipairs(KEYS) do
    local text = redis.pcall('GET', key) or ''
    if type(text) == 'table' then
        headers[at] = '\1' .. text.err
    else
        headers[at] = string.match(text, '^[^\n]*\n[^\n]*\n') or text
    end
end
return headers
