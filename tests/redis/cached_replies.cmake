# Replies read in RESP3 and told in RESP2, against what a real server answers in RESP2.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_executable(cached_replies_cli cached_replies_cli.cpp)
nearcached_configure(cached_replies_cli)
target_link_libraries(cached_replies_cli PRIVATE nearcached_protocol)
add_test(NAME redis.cached_replies
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/cached_replies.py --cli $<TARGET_FILE:cached_replies_cli>)
set_tests_properties(redis.cached_replies PROPERTIES LABELS redis TIMEOUT 240 SKIP_RETURN_CODE 77)
