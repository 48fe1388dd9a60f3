"""The scripts: one reads hashes at one moment, one writes if what was read is still so."""

READ = """\
local at = 1
local function take() at = at + 1; return ARGV[at - 1] end
local whole = take() == '1'
local out = {redis.call('TIME')}
for i = 1, #KEYS do
  local wanted, found = {}, {}
  for n = 1, tonumber(take()) do wanted[n] = take() end
  if whole and i > 1 then
    found = redis.call('HGETALL', KEYS[i])
  else
    for n, field in ipairs(wanted) do found[n] = redis.call('HGET', KEYS[i], field) end
  end
  out[#out + 1] = redis.call('HLEN', KEYS[i])
  out[#out + 1] = found
end
return out
"""
"""KEYS: as below. ARGV: whether all but the first are read as a whole; for each the fields that are wanted otherwise.

A script, because a server that is out of memory refuses MULTI, and reading should go on.
"""

RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end return 0"
"""Takes out a claim, if it is still the one that was made."""

WRITE = """\
local at = 1
local function take() at = at + 1; return ARGV[at - 1] end
if redis.call('HGET', KEYS[1], 'instance') ~= take() then return 'lost' end
for i = 2, #KEYS do
  local expected = take()
  if expected ~= '*' and (redis.call('HGET', KEYS[i], 'rev') or '') ~= expected then return 'moved' end
end
local frees = take() == '1'
local changes = {}
for i = 1, #KEYS do
  local change = {dropped = take() == '1', deadline = take(), lives = take(), fields = {}, values = {}, gone = {}}
  for n = 1, tonumber(take()) do change.fields[n], change.values[n] = take(), take() end
  for n = 1, tonumber(take()) do change.gone[n] = take() end
  changes[i] = change
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function remove(i)
  for _, field in ipairs(changes[i].gone) do redis.call('HDEL', KEYS[i], field) end
end
for i, change in ipairs(changes) do
  if change.dropped then redis.call('UNLINK', KEYS[i]) elseif frees then remove(i) end
end
for i, change in ipairs(changes) do
  for n, field in ipairs(change.fields) do redis.call('HSET', KEYS[i], field, change.values[n]) end
  if not frees then remove(i) end
  if change.lives == 'on' then
    redis.call('PERSIST', KEYS[i])
    redis.call('HDEL', KEYS[2], change.deadline)
  elseif change.lives ~= '' then
    local ends = string.format('%.0f', now + tonumber(change.lives))
    redis.call('PEXPIREAT', KEYS[i], ends)
    redis.call('HSET', KEYS[2], change.deadline, ends)
  end
end
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('HSET', KEYS[i], 'fields', 0)
    redis.call('HSET', KEYS[i], 'fields', redis.call('HLEN', KEYS[i]))
  end
end
return 'done'
"""
"""KEYS: the directory, an owner, sessions of that owner.

ARGV: the instance; for each key but the first the mark it must have ("" for a hash that must not be there, "*" for
any); whether the whole frees memory; then for each key whether it is dropped, under which field of the owner its end is
noted, how many milliseconds it lives from now ("on": without end, "": as it is), its new fields, the fields that go.

A server that is out of memory refuses the first write of a script if that sets a field, and then nothing was written;
after a first write that deletes it refuses none. So what frees memory deletes first, and the rest sets first.
"""
