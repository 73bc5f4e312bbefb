-- One batch's step. ARGV: prefix, limits (JSON), batch id, intent, users (JSON), products to read
-- (JSON), how many of `users` to read (the first ones), popular count, the step to be (0: the next one),
-- then the changes, each a letter with its arguments. Returns sequence, tombstones, and what was read (see replies.py).
local limits = cjson.decode(ARGV[2])
local users = cjson.decode(ARGV[5])
read_tombstones(users)

local function exact(number) return string.format('%.17g', number) end

-- Lives are refreshed at the end, once a key, however often the batch touched it.
local lives = {}
local function refresh_lives()
  for key, ttl_s in pairs(lives) do call('EXPIRE', key, ttl_s) end
end

-- ---- history
local function add_history(user, version, member)
  if is_forgotten(user, version) then return end
  local key = prefix .. 'history:' .. user
  if call('ZADD', key, tonumber(string.sub(version, 1, 16)), member) == 1 then
    call('ZREMRANGEBYRANK', key, 0, -1 - limits.history_max_events)
  end
  lives[key] = limits.history_ttl_s
end

-- ---- popularity: see decay.py
local clock
local function read_clock()
  if clock then return end
  local span, newest, half_life =
    unpack(call('HMGET', prefix .. 'popular_clock', 'span', 'newest_ms', 'half_life_ms'))
  clock = { span = tonumber(span), newest_ms = tonumber(newest), half_life_ms = tonumber(half_life) }
end

local function rescale_popular(factor)
  local key = prefix .. 'popular'
  if factor == 0 then
    call('DEL', key)
  else
    call('ZUNIONSTORE', key, 1, key, 'WEIGHTS', exact(factor))
  end
end

-- A changed setting moves the counts to the new scale, as they stand at the newest purchase.
local function follow_half_life()
  local old, new = clock.half_life_ms, limits.half_life_ms
  if not clock.span or old == new then return end
  local span = math.floor(clock.newest_ms / (new * 128))
  rescale_popular(2 ^ ((clock.newest_ms - span * new * 128) / new
    - (clock.newest_ms - clock.span * old * 128) / old))
  clock.span, clock.half_life_ms = span, new
end

local function move_clock(span, time_ms)
  read_clock()
  follow_half_life()
  if not clock.span then
    clock.span, clock.newest_ms, clock.half_life_ms = span, time_ms, limits.half_life_ms
  elseif span > clock.span then
    rescale_popular(2 ^ (-128 * (span - clock.span)))
    clock.span = span
  end
  clock.newest_ms = math.max(clock.newest_ms, time_ms)
  clock.moved = true
end

-- ---- co-purchase
local function join(product, other, weight, grown)
  local key = prefix .. 'together:' .. product
  if call('ZINCRBY', key, weight, other) == weight then grown[key] = true end -- a new neighbour
  lives[key] = limits.state_ttl_s
end

-- A row is cut only when it is twice too long: a new neighbour has time to be counted again.
local function settle_row(key)
  if call('ZCARD', key) > 2 * limits.together_max_products then
    call('ZREMRANGEBYRANK', key, 0, -1 - limits.together_max_products)
  end
end

local function join_order(user, time_ms, ordered)
  local purchased = prefix .. 'purchased:' .. user
  local inside = {}
  for _, product in ipairs(ordered) do inside[product] = true end
  local earlier = {}
  for _, product in ipairs(call('ZREVRANGEBYSCORE', purchased, '(' .. exact(time_ms), '-inf',
    'LIMIT', 0, limits.earlier_products)) do
    if not inside[product] then earlier[#earlier + 1] = product end
  end
  local grown, bought = {}, {}
  for _, product in ipairs(ordered) do
    for _, other in ipairs(ordered) do
      if product ~= other then join(product, other, '1', grown) end
    end
    for _, before in ipairs(earlier) do join(before, product, '0.5', grown) end
    bought[#bought + 1] = exact(time_ms)
    bought[#bought + 1] = product
  end
  for key in pairs(grown) do settle_row(key) end
  call('ZADD', purchased, 'GT', unpack(bought))
  call('ZREMRANGEBYRANK', purchased, 0, -1 - limits.purchased_products)
  lives[purchased] = limits.history_ttl_s
end

-- ---- purchases and returns
local function first_time(version)
  return call('SET', prefix .. 'counted:' .. string.sub(version, 18), '1', 'NX', 'EX', limits.guard_ttl_s)
end

local function count_purchase(user, version, span, items)
  if is_forgotten(user, version) or not first_time(version) then return end
  local time_ms = tonumber(string.sub(version, 1, 16))
  span, items = tonumber(span), cjson.decode(items)
  move_clock(span, time_ms)
  local carry = 2 ^ (-128 * (clock.span - span))
  local ordered = {}
  for place = 1, #items, 2 do
    call('ZINCRBY', prefix .. 'popular', exact(tonumber(items[place + 1]) * carry), items[place])
    if #ordered < limits.paired_products then ordered[#ordered + 1] = items[place] end
  end
  join_order(user, time_ms, ordered)
end

-- A return takes back what the purchase counts now: its weight is that of the moment it was bought.
local function count_return(user, version, items)
  if is_forgotten(user, version) or not first_time(version) then return end
  read_clock()
  if not clock.span then return end
  follow_half_life()
  clock.moved = true
  local time_ms = tonumber(string.sub(version, 1, 16))
  items = cjson.decode(items)
  local popular, half_life_ms = prefix .. 'popular', limits.half_life_ms
  for place = 1, #items, 2 do
    local product, quantity = items[place], tonumber(items[place + 1])
    local standing = call('ZSCORE', popular, product)
    if standing then
      local bought_ms = tonumber(call('ZSCORE', prefix .. 'purchased:' .. user, product) or time_ms)
      bought_ms = math.min(bought_ms, time_ms)
      local weight = 2 ^ ((bought_ms - clock.span * (half_life_ms * 128)) / half_life_ms)
      local rest = tonumber(standing) - quantity * weight
      if rest > 0 then call('ZADD', popular, exact(rest), product) else call('ZREM', popular, product) end
    end
  end
end

local function settle_popular()
  if not (clock and clock.moved) then return end
  local popular = prefix .. 'popular'
  call('ZREMRANGEBYSCORE', popular, '-inf', 0)
  call('ZREMRANGEBYRANK', popular, 0, -1 - limits.popular_max_products)
  call('HSET', prefix .. 'popular_clock', 'span', exact(clock.span), 'newest_ms',
    exact(clock.newest_ms), 'half_life_ms', exact(clock.half_life_ms))
end

-- ---- products and reviews
local function put_product(product, version, record, removed)
  local key = prefix .. 'product:' .. product
  local standing = standing_version(key)
  if standing and not not_older(version, standing) then return end
  if removed == '1' then
    call('SET', key, record, 'EX', limits.guard_ttl_s)
  else
    call('SET', key, record)
  end
end

local function drop_review(review)
  local key = prefix .. 'review:' .. review
  local record = call('GET', key)
  if record then
    call('ZREM', prefix .. 'reviews:' .. cjson.decode(record).product_id, review)
    call('DEL', key)
  end
end

local function put_review(user, version, product, review, record)
  if is_forgotten(user, version) then return end
  local key, index = prefix .. 'review:' .. review, prefix .. 'reviews:' .. product
  local standing = standing_version(key)
  if standing then
    if not not_older(version, standing) then return end
    drop_review(review)
  end
  call('SET', key, record, 'EX', limits.state_ttl_s)
  own(user, 'review:' .. review, limits.state_ttl_s)
  call('ZADD', index, tonumber(string.sub(version, 1, 16)), review)
  for _, oldest in ipairs(call('ZRANGE', index, 0, -1 - limits.reviews_per_product)) do
    call('ZREM', index, oldest)
    call('DEL', prefix .. 'review:' .. oldest)
  end
  lives[index] = limits.state_ttl_s
end

-- ---- forget: all up to `version`; what is newer stays, but recommendations know the whole history
local forgotten_now = {}
local function forget(user, version)
  if is_forgotten(user, version) then return end
  forgotten_now[#forgotten_now + 1] = user
  tombstones[user] = version
  call('SET', prefix .. 'forgotten:' .. user, version, 'EX', limits.guard_ttl_s)
  local time, history = exact(tonumber(string.sub(version, 1, 16))), prefix .. 'history:' .. user
  call('ZREMRANGEBYSCORE', history, '-inf', '(' .. time)
  for _, member in ipairs(call('ZRANGEBYSCORE', history, time, time)) do
    local event = string.match(member, '^%["([^"]+)"')
    if not_older(version, string.sub(version, 1, 17) .. event) then call('ZREM', history, member) end
  end
  call('ZREMRANGEBYSCORE', prefix .. 'purchased:' .. user, '-inf', time)
  call('DEL', prefix .. 'recommendations:' .. user)
  local owned = prefix .. 'owned:' .. user
  for _, suffix in ipairs(call('ZRANGE', owned, 0, -1)) do
    local standing = standing_version(prefix .. suffix)
    if not standing or not_older(version, standing) then
      if string.sub(suffix, 1, 7) == 'review:' then drop_review(string.sub(suffix, 8)) end
      call('DEL', prefix .. suffix)
      call('ZREM', owned, suffix)
    end
  end
  call('PUBLISH', prefix .. 'written:forgotten:' .. user, version)
end

-- ---- the changes
local changes = {
  H = { 3, add_history },
  P = { 4, count_purchase },
  R = { 3, count_return },
  D = { 4, put_product },
  V = { 5, put_review },
  F = { 2, forget },
}
local place = 10
while place <= #ARGV do
  local count, change = unpack(changes[ARGV[place]])
  change(unpack(ARGV, place + 1, place + count))
  place = place + count + 1
end
settle_popular()
refresh_lives()

-- ---- the reads, joined to few long strings: replies of many short ones cost the client more
local function read_histories(count)
  local histories, wanted, rows, asked = {}, {}, {}, {}
  for index = 1, count do
    local user = users[index]
    histories[index] = table.concat(call('ZRANGE', prefix .. 'history:' .. user, 0, -1), ',')
    for _, product in ipairs(call('ZREVRANGE', prefix .. 'purchased:' .. user, 0,
      limits.earlier_products - 1)) do
      if not asked[product] then
        asked[product] = true
        wanted[#wanted + 1] = product
      end
    end
  end
  for index, product in ipairs(wanted) do
    local row = call('ZREVRANGE', prefix .. 'together:' .. product, 0, limits.together_read - 1, 'WITHSCORES')
    rows[index] = #row > 0 and cjson.encode(row) or '[]'
  end
  return histories, wanted, table.concat(rows, ',')
end

local function read_products(products)
  local records, reviews = {}, {}
  for index, product in ipairs(products) do
    records[index] = call('GET', prefix .. 'product:' .. product)
    local keys, texts = {}, {}
    for _, review in ipairs(call('ZREVRANGE', prefix .. 'reviews:' .. product, 0, -1)) do
      keys[#keys + 1] = prefix .. 'review:' .. review
    end
    if #keys > 0 then
      for _, text in ipairs(call('MGET', unpack(keys))) do
        if text then texts[#texts + 1] = text end
      end
    end
    reviews[index] = table.concat(texts, ',')
  end
  return records, reviews
end

local sequence = tonumber(ARGV[9])
if sequence == 0 then
  sequence = call('INCR', prefix .. 'sequence')
else
  call('SET', prefix .. 'sequence', sequence)
end
for _, user in ipairs(forgotten_now) do
  call('SET', prefix .. 'forgotten_step:' .. user, sequence, 'EX', limits.guard_ttl_s)
end
if ARGV[4] ~= '' then
  call('HSET', prefix .. 'intents', ARGV[3], string.format('{"sequence":%d,"intent":%s}', sequence, ARGV[4]))
end
local histories, wanted, rows = read_histories(tonumber(ARGV[7]))
local records, reviews = read_products(cjson.decode(ARGV[6]))
local popular, popular_count = {}, tonumber(ARGV[8])
if popular_count > 0 then
  read_clock()
  popular = call('ZREVRANGE', prefix .. 'popular', 0, popular_count - 1, 'WITHSCORES')
end
local stones = {}
for index, user in ipairs(users) do stones[index] = tombstones[user] or '' end
return { sequence, stones, histories, wanted, rows, records, reviews, popular,
  clock and clock.span and { exact(clock.span), exact(clock.newest_ms), exact(clock.half_life_ms) } or {} }
