-- Results, only if not older by version and, at the same one, by step. ARGV: prefix, batch id, life of a vote in seconds, days kept, owners
-- (JSON), the batch's step (0: unknown), then seven arguments a result: key without prefix, version,
-- value, TTL in seconds, owner, vote (JSON, may be empty), vote's product. Returns how many were
-- written, older, forgotten.
local vote_ttl_s, days_kept = tonumber(ARGV[3]), tonumber(ARGV[4])
read_tombstones(cjson.decode(ARGV[5]))

local function add_to_day(product, day, reviews, score_micro)
  local key = prefix .. 'sentiment_days:' .. product
  local member = call('ZRANGEBYSCORE', key, day, day)[1]
  if member then
    local _, count, sum = string.match(member, '^(%-?%d+):(%d+):(%-?%d+)$')
    reviews, score_micro = reviews + tonumber(count), score_micro + tonumber(sum)
    call('ZREM', key, member)
  end
  if reviews > 0 then call('ZADD', key, day, string.format('%d:%d:%d', day, reviews, score_micro)) end
  call('ZREMRANGEBYRANK', key, 0, -1 - days_kept)
  call('EXPIRE', key, vote_ttl_s)
end

local function count_vote(vote, sign)
  local key = prefix .. 'sentiment:' .. vote.product_id
  call('HINCRBY', key, vote.label, sign)
  call('HINCRBY', key, 'score_micro', string.format('%d', sign * vote.score_micro))
  call('EXPIRE', key, vote_ttl_s)
  add_to_day(vote.product_id, vote.day, sign, sign * vote.score_micro)
end

-- The vote's own record guards the counters: a corrected review takes its old vote back first.
local function replace_vote(key, text)
  local standing = call('GET', key)
  if standing == text then return end
  if standing then count_vote(cjson.decode(standing), -1) end
  count_vote(cjson.decode(text), 1)
  call('SET', key, text, 'EX', vote_ttl_s)
end

local step = tonumber(ARGV[6])

-- Two batches may make one result of one event: the first owner of a moved partition and the second.
-- The later step wins, whichever is written last, because a replay does the steps one by one.
local function stands(key, version)
  local standing, standing_step = standing_version(key)
  if not standing then return false end
  if standing == version then return standing_step > step end
  return not not_older(version, standing)
end

-- A shopper's list knows the whole history: one made before the forget request did its step must
-- not come back after it, whatever its version.
local function knows_forgotten(suffix, owner)
  if step == 0 or not tombstones[owner] or suffix ~= 'recommendations:' .. owner then return false end
  local at = call('GET', prefix .. 'forgotten_step:' .. owner)
  return at and step < tonumber(at)
end

local written, older, forgotten = 0, 0, 0

local function write(suffix, version, value, ttl_s, owner, vote, product)
  if owner ~= '' and (is_forgotten(owner, version) or knows_forgotten(suffix, owner)) then
    forgotten = forgotten + 1
    return
  end
  local key = prefix .. suffix
  local vote_suffix = vote ~= '' and 'vote:' .. string.sub(suffix, #'tags:' + 1)
  if stands(key, version) or (vote_suffix and stands(prefix .. vote_suffix, version)) then
    older = older + 1
    return
  end
  call('SET', key, value, 'EX', ttl_s)
  call('PUBLISH', prefix .. 'written:' .. suffix, version)
  if owner ~= '' and suffix ~= 'recommendations:' .. owner then own(owner, suffix, tonumber(ttl_s)) end
  if vote_suffix then
    replace_vote(prefix .. vote_suffix, vote)
    if owner ~= '' then own(owner, vote_suffix, vote_ttl_s) end
    call('PUBLISH', prefix .. 'written:product:' .. product, version)
  end
  written = written + 1
end

for place = 7, #ARGV, 7 do write(unpack(ARGV, place, place + 6)) end
if ARGV[2] ~= '' then call('HDEL', prefix .. 'intents', ARGV[2]) end
return { written, older, forgotten }
