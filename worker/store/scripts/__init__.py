"""The Lua scripts of `RedisStore`, what they are given and answer; no client may enter."""
