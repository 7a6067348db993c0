# The command table against a real server: no drift of commands.inc, and the keys that COMMAND GETKEYS gives.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_executable(extract_keys_cli extract_keys_cli.cpp)
nearcached_configure(extract_keys_cli)
target_link_libraries(extract_keys_cli PRIVATE nearcached_protocol)
add_test(NAME redis.commands_against_server
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/commands_against_server.py --cli $<TARGET_FILE:extract_keys_cli>)
set_tests_properties(redis.commands_against_server PROPERTIES LABELS redis TIMEOUT 120 SKIP_RETURN_CODE 77)
