-- What apply.lua and write.lua share. ARGV[1] is the key prefix; all keys lie under it (one hash slot
-- where the prefix holds a hash tag), so they are built here and not declared.
local prefix = ARGV[1] .. ':'
local call = redis.call

-- Versions are '<16 digits of ms>:<event id>'. Lua compares strings by the server's locale, hence bytes.
local function not_older(left, right)
  local left_ms, right_ms = tonumber(string.sub(left, 1, 16)), tonumber(string.sub(right, 1, 16))
  if left_ms ~= right_ms then return left_ms > right_ms end
  for place = 18, math.min(#left, #right) do
    local a, b = string.byte(left, place), string.byte(right, place)
    if a ~= b then return a > b end
  end
  return #left >= #right
end

-- The version of a JSON record is its first member: {"version":"…", and 12 bytes stand before it.
-- In results and votes the batch's step is the second; 0 where there is none.
local function standing_version(key)
  local text = call('GETRANGE', key, 12, 320)
  local stop = string.find(text, '"', 1, true)
  if not stop then return end
  return string.sub(text, 1, stop - 1), tonumber(string.match(text, '^","step":(%d+)', stop) or 0)
end

local tombstones = {}
local function read_tombstones(users)
  for first = 1, #users, 1000 do
    local keys = {}
    for place = first, math.min(first + 999, #users) do
      keys[#keys + 1] = prefix .. 'forgotten:' .. users[place]
    end
    for place, version in ipairs(call('MGET', unpack(keys))) do
      tombstones[users[first + place - 1]] = version
    end
  end
end

local function is_forgotten(user, version)
  local tombstone = tombstones[user]
  return tombstone and not_older(tombstone, version)
end

-- Notes that a key is to be forgotten with a shopper. Entries end when their keys do.
local now_s
local function own(user, suffix, ttl_s)
  now_s = now_s or tonumber(call('TIME')[1])
  local owned = prefix .. 'owned:' .. user
  call('ZREMRANGEBYSCORE', owned, '-inf', now_s)
  call('ZADD', owned, string.format('%d', now_s + ttl_s), suffix)
  if call('TTL', owned) < ttl_s then call('EXPIRE', owned, ttl_s) end
end
